"""Every key in one table. Bindings, the key bar, the help screen and the command palette are all made from it.

Only keys that every terminal sends, also under tmux and over ssh, are used: Enter, Ctrl+letter, function keys,
Ctrl+PageUp and Ctrl+PageDown, Esc and Tab. `GLASSCHAT_KEYS`, or `keys.json` in the data directory, may give any of
them another key: a JSON object from id to key.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    keys: str
    """As Textual names them, several with commas."""
    action: str
    label: str
    """A word or two, for the key bar and the palette."""
    help: str
    """A sentence, for the help screen and the palette."""
    scope: str = "chat"
    """Where it works: everywhere in the chat, in the composer, in the transcript, in the inspector, in the switches."""
    bar: int = 0
    """Its place in the key bar: 1 comes first and is dropped last; 0 is not shown there."""
    palette: bool = True
    bound: bool = True
    """False for a key that a widget handles itself and that stands here to be explained."""


KEYS: tuple[Key, ...] = (
    Key("compose.send", "enter", "send", "Send", "send the message", "composer", 1, palette=False, bound=False),
    Key(
        "compose.newline", "ctrl+j", "newline", "New line", "start a new line in the message", "composer", 10,
        palette=False, bound=False,
    ),
    Key(
        "compose.history", "up,down", "history", "History",
        "on the first or last line: walk through what you sent", "composer", palette=False, bound=False,
    ),
    Key("answer.stop", "escape", "stop", "Stop", "stop the answer of this session (and close a dialog)", bar=2),
    Key("session.new", "ctrl+n", "new_session", "New tab", "open a new session in a tab", bar=4),
    Key("session.previous", "ctrl+pageup", "switch(-1)", "Previous tab", "go to the tab on the left (or click a tab)"),
    Key("session.next", "ctrl+pagedown", "switch(1)", "Next tab", "go to the tab on the right"),
    Key("session.close", "f4", "close_session", "Close tab", "close this tab; its answer is stopped, its text is kept"),
    Key("session.reopen", "ctrl+t", "reopen", "Reopen tab", "bring back the tab closed last"),
    Key("session.rename", "f7", "rename", "Rename", "rename this session"),
    Key("session.list", "f9", "sessions", "Sessions", "list of all sessions: search, open, delete", bar=9),
    Key(
        "answer.regenerate", "ctrl+r", "regenerate", "Again",
        "regenerate the last answer; the old one is kept as a version", bar=7,
    ),
    Key(
        "question.edit", "ctrl+g", "edit", "Edit",
        "edit the last question and send it again; the old one is kept as a version", bar=8,
    ),
    Key("answer.copy", "ctrl+o", "copy", "Copy", "copy the last answer (OSC 52: works over ssh and tmux)", bar=11),
    Key(
        "session.settings", "ctrl+s", "settings", "Settings",
        "settings of this session: system prompt, sampling, tools", bar=6,
    ),
    Key(
        "view.dock", "f2", "dock", "Panels",
        "show or hide the panels; below 110 columns they take the chat's place", bar=3,
    ),
    Key(
        "view.inspector", "f3", "inspector", "Inspector",
        "the whole window for the engine: every KV block, who got what and why, times, events", bar=5,
    ),
    Key(
        "view.switches", "f8", "switches", "Switches",
        "engine options: requested, effective, why; change them live", bar=5,
    ),
    Key(
        "engine.pause", "f5", "pause", "Pause",
        "pause the engine at the end of its step, or let it go on; chats can still be typed and sent",
    ),
    Key("engine.step", "f6", "step", "Step", "compute one step, then pause"),
    Key("app.help", "f1", "help", "Help", "this list of keys", bar=1),
    Key(
        "app.palette", "ctrl+p", "palette", "Commands",
        "command palette: everything here, themes, export to Markdown", bar=3, palette=False,
    ),
    Key("app.quit", "ctrl+q", "quit", "Quit", "leave; every tab is back at the next start", bar=12),
    Key(
        "transcript.focus", "tab", "focus_next", "Transcript",
        "go from the message to the transcript and back", palette=False, bound=False,
    ),
    Key("transcript.up", "up", "select(-1)", "Select", "select the message above", "transcript", palette=False),
    Key("transcript.down", "down", "select(1)", "Select", "select the message below", "transcript", palette=False),
    Key("transcript.copy", "c", "ask('copy')", "Copy", "copy the selected message", "transcript", 1, palette=False),
    Key(
        "transcript.edit", "e", "ask('edit')", "Edit",
        "edit the selected question and send it again", "transcript", 2, palette=False,
    ),
    Key(
        "transcript.again", "r", "ask('regenerate')", "Again",
        "regenerate the selected answer", "transcript", 3, palette=False,
    ),
    Key(
        "transcript.fork", "f", "ask('fork')", "Fork",
        "open a new tab that begins like this session up to the selected message", "transcript", 6, palette=False,
    ),
    Key(
        "transcript.open", "enter", "ask('open')", "Open",
        "show all of the selected message's thought and tool calls, or less again (or click one)",
        "transcript", 7, palette=False,
    ),
    Key(
        "transcript.older", "left", "ask('older')", "Older version",
        "show the version before of the selected message", "transcript", 4, palette=False,
    ),
    Key(
        "transcript.newer", "right", "ask('newer')", "Newer version",
        "show the version after", "transcript", palette=False,
    ),
    Key(
        "transcript.tokens", "t", "tokens", "Tokens",
        "show answers token by token: drafted and accepted, or sampled by the model", "transcript", palette=False,
    ),
    Key(
        "transcript.pageup", "pageup", "page(-1)", "Page up",
        "scroll up; the view then keeps its place", "transcript", palette=False,
    ),
    Key("transcript.pagedown", "pagedown", "page(1)", "Page down", "scroll down", "transcript", palette=False),
    Key("transcript.home", "home", "top", "Start", "go to the first message", "transcript", palette=False),
    Key(
        "transcript.end", "end", "bottom", "End",
        "go to the end and follow the answer again", "transcript", 5, palette=False,
    ),
    Key(
        "inspector.block", "left,right,up,down", "move", "Block",
        "choose a KV block: whose it is, its references, its hash", "inspector",
        palette=False, bound=False,
    ),
    Key(
        "inspector.session", "s", "session", "Session",
        "from session to session: its request, its blocks, what its last steps gave it", "inspector",
        palette=False, bound=False,
    ),
    Key(
        "inspector.all", "a", "all", "All",
        "all sessions again", "inspector",
        palette=False, bound=False,
    ),
    Key(
        "inspector.breakpoint", "b", "breakpoint", "Break",
        "pause whenever that session is scheduled, is preempted, or ends (the palette has that, and Run until…)",
        "inspector",
        palette=False, bound=False,
    ),
    Key(
        "inspector.drafts", "d", "drafts", "Drafts",
        "drafts in the place of the blocks, and back", "inspector",
        palette=False, bound=False,
    ),
    Key(
        "switches.change", "enter", "change", "Change",
        "change the option", "switches",
        palette=False, bound=False,
    ),
    Key(
        "switches.measure", "m", "measure", "Measure",
        "measure what another value does, on work that is the same under both", "switches",
        palette=False, bound=False,
    ),
    Key(
        "switches.live", "l", "measure_live", "Measure live",
        "measure it on the steps of your chats, or see how far that is", "switches",
        palette=False, bound=False,
    ),
    Key(
        "switches.operations", "o", "operations", "Operations",
        "on the row of kernels: what computes each operation, and why", "switches",
        palette=False, bound=False,
    ),
    Key(
        "switches.restart", "f5", "restart", "Restart",
        "restart the engine with what is asked for", "switches",
        palette=False, bound=False,
    ),
)  # fmt: skip

_NAMES = {"escape": "Esc", "pageup": "PageUp", "pagedown": "PageDown", "enter": "Enter", "left": "←", "right": "→"}


def display(keys: str) -> str:
    """`ctrl+pageup` as people write it: Ctrl+PageUp."""

    def one(key: str) -> str:
        parts = key.split("+")
        named = [_NAMES.get(p, p if len(p) == 1 and len(parts) == 1 else p.capitalize()) for p in parts]
        return "+".join(named)

    return " / ".join(one(key.strip()) for key in keys.split(","))


def by_id(id: str) -> Key:
    return next(key for key in KEYS if key.id == id)


def bindings(scope: str) -> list[BindingType]:
    """Textual's bindings of one scope. Those of the chat come before what the composer would do with the key."""
    return [
        Binding(k.keys, k.action, k.label, show=False, priority=scope == "chat", id=k.id)
        for k in KEYS
        if k.scope == scope and k.bound
    ]


def load_keymap(folder: Path) -> tuple[dict[str, str], str]:
    """The user's own keys, and a sentence if they could not be read or name something unknown."""
    path = Path(os.environ.get("GLASSCHAT_KEYS") or folder / "keys.json")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        return {}, f"{path} could not be read ({error}): the standard keys are in force"
    changeable = {k.id for k in KEYS if k.bound}
    if not isinstance(raw, dict) or not all(isinstance(v, str) for v in raw.values()):
        return {}, f'{path} must hold one JSON object such as {{"session.new": "f5"}}: the standard keys are in force'
    unknown = sorted(set(raw) - changeable)
    note = f"{path}: there is no key called {', '.join(unknown)}; the others are in force" if unknown else ""
    return {id: key for id, key in raw.items() if id in changeable}, note


def help_rows(keymap: dict[str, str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The help screen: headings with rows of key and sentence."""
    headings = {
        "composer": "While writing",
        "chat": "Anywhere",
        "transcript": "In the transcript (Tab goes there)",
        "inspector": "In the inspector (F3)",
        "switches": "In the switches (F8)",
    }
    return [
        (heading, [(display(keymap.get(k.id, k.keys)), k.help) for k in KEYS if k.scope == scope])
        for scope, heading in headings.items()
    ]
