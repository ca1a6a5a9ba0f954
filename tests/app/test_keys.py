"""One table of keys; what a user may change, and what every terminal can send."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.chat.screen import ChatScreen
from app.chat.transcript import Transcript
from app.inspector.screen import InspectorScreen, Map
from app.keys import KEYS, by_id, display, load_keymap
from app.panels.switches import SwitchesScreen

# Keys that terminals or tmux turn into other keys, or that Textual's text area needs for itself.
UNUSABLE = {"ctrl+i", "ctrl+m", "ctrl+h", "ctrl+b", "ctrl+tab", "shift+enter", "alt+enter", "ctrl+["}
EDITING = {f"ctrl+{letter}" for letter in "acdekuvwxyz"}


def test_ids_are_unique_and_keys_are_unique_in_their_place() -> None:
    assert len({k.id for k in KEYS}) == len(KEYS)
    for scope in ("chat", "transcript"):
        keys = [key for k in KEYS if k.scope == scope for key in k.keys.split(",")]
        assert len(set(keys)) == len(keys)


def test_only_keys_that_arrive_everywhere_are_used() -> None:
    used = {key for k in KEYS for key in k.keys.split(",")}
    assert not used & UNUSABLE
    assert not {key for k in KEYS if k.scope == "chat" for key in k.keys.split(",")} & EDITING


def test_every_bound_key_has_its_action() -> None:
    for key in KEYS:
        if key.bound:
            owner = Transcript if key.scope == "transcript" else ChatScreen
            assert hasattr(owner, f"action_{key.action.split('(')[0]}"), key.id


def test_keys_of_other_screens_are_explained_as_they_are_there() -> None:
    screens = {"inspector": {**keys_of(InspectorScreen), **keys_of(Map)}, "switches": keys_of(SwitchesScreen)}
    for scope, known in screens.items():
        explained = [key for key in KEYS if key.scope == scope]
        assert explained
        for key in explained:
            for each in key.keys.split(","):
                # A table takes Enter itself.
                assert each == "enter" or known[each].split("(")[0] in (key.action, "row"), key.id


def keys_of(screen: type[Any]) -> dict[str, str]:
    return {key: b.action for b in screen.BINDINGS for key in b.key.split(",")}


def test_keys_are_written_as_people_read_them() -> None:
    assert [display(k) for k in ("ctrl+pageup", "f8", "up,down", "c", "escape")] == [
        "Ctrl+PageUp", "F8", "Up / Down", "c", "Esc",
    ]  # fmt: skip


def test_a_user_s_keymap_replaces_keys_and_a_bad_one_is_explained(tmp_path: Path) -> None:
    assert load_keymap(tmp_path) == ({}, "")
    (tmp_path / "keys.json").write_text(json.dumps({"session.new": "f5", "no.such": "f6"}))
    keymap, note = load_keymap(tmp_path)
    assert keymap == {"session.new": "f5"}
    assert "no.such" in note
    (tmp_path / "keys.json").write_text("{")
    assert "could not be read" in load_keymap(tmp_path)[1]
    (tmp_path / "keys.json").write_text("[1]")
    assert "one JSON object" in load_keymap(tmp_path)[1]


async def test_a_changed_key_works_and_is_shown(launch: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keys.json").write_text('{"session.new": "f5"}')
    async with launch() as rig:
        assert "F5 New tab" in rig.screen_text()
        await rig.press("f5")
        assert len(rig.workspace.sessions) == 2
        assert by_id("session.new").keys == "ctrl+n"
