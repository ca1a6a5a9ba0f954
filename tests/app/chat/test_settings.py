"""Settings are checked field by field while they are typed, and apply to the session's next answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from textual.widgets import Input, TextArea

from app.chat.screen import ChatScreen
from app.chat.settings import FIELDS, SettingsScreen, read_field
from inference.protocol import SamplingParams, Submit

Launch = Callable[..., Any]
FIELD = {field.name: field for field in FIELDS}


def test_every_sampling_parameter_has_a_field() -> None:
    # logprobs ask for numbers that the chat does not show.
    assert set(FIELD) == {f.name for f in fields(SamplingParams)} - {"logprobs"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0", 0.0),
        ("seed", "", None),
        ("seed", "17", 17),
        ("max_tokens", " ", None),
        ("stop", "END | \\n\\n", ("END", "\n\n")),
        ("logit_bias", "5=-1.5, 7=2", {5: -1.5, 7: 2.0}),
        ("ignore_eos", "Yes", True),
    ],
)
def test_what_is_typed_is_read(name: str, text: str, value: object) -> None:
    assert read_field(FIELD[name], text) == (value, "")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("temperature", "hot", "must be a number"),
        ("temperature", "-1", "temperature is -1.0, but must be between 0 and 100"),
        ("top_p", "0", "top_p is 0.0, but must be above 0 and at most 1"),
        ("top_k", "1.5", "must be a whole number"),
        ("max_tokens", "0", "max_tokens is 0, but must be at least 1"),
        ("logit_bias", "five", "must be pairs such as 17=-5, with commas"),
        ("logit_bias", "5=999", "a logit_bias lies outside -100 to 100"),
        ("stop", "a | | b", "a stop string is empty: leave it out or give it at least one character"),
        ("ignore_eos", "maybe", "must be yes or no"),
        ("temperature", "nan", "temperature is nan, but must be between 0 and 100"),
    ],
)
def test_what_is_wrong_is_said(name: str, text: str, sentence: str) -> None:
    assert read_field(FIELD[name], text) == (None, sentence)


def test_every_field_reads_what_it_writes() -> None:
    params = SamplingParams(
        temperature=0.85, top_k=40, top_p=0.9, min_p=0.05, seed=7, stop=("a\n", "b"), max_tokens=99,
        logit_bias={3: -2.5},
        repetition_penalty=1.1, presence_penalty=-0.5, frequency_penalty=0.25, ignore_eos=True,
    )  # fmt: skip
    for field in FIELDS:
        value = getattr(params, field.name)
        expected = tuple(s.strip(" ") for s in value) if field.name == "stop" else value
        assert read_field(field, field.write(value)) == (expected, "")


async def test_a_wrong_value_is_shown_beside_its_field_and_not_saved(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press("ctrl+s")
        screen = rig.app.screen
        screen.query_one("#top_p", Input).value = "7"
        await rig.settle()
        assert "✗ top_p is 7.0, but must be above 0 and at most 1" in " ".join(rig.screen_text().split())
        await rig.press("ctrl+s")
        assert isinstance(rig.app.screen, SettingsScreen)
        assert screen.query_one("#top_p", Input).has_focus
        await rig.press("escape")
        assert rig.session.params.top_p == 1.0


async def test_saved_settings_go_with_the_next_request_and_into_new_tabs(launch: Launch) -> None:
    async with launch() as rig:
        assert rig.session.params.temperature == 0.3, "the demo model likes it cool"
        await rig.press("ctrl+s")
        rig.app.screen.query_one("#temperature", Input).value = "0.9"
        rig.app.screen.query_one("#seed", Input).value = "5"
        rig.app.screen.query_one("#system", TextArea).text = "Be brief."
        await rig.press("ctrl+s")
        assert isinstance(rig.app.screen, ChatScreen)
        await rig.send("go")
        (command,) = [c for c in rig.engine.commands if isinstance(c, Submit)]
        assert (command.params.temperature, command.params.seed) == (0.9, 5)
        assert command.prompt.messages[0].content == "Be brief."  # type: ignore[union-attr]
        await rig.press("ctrl+n")
        assert rig.session.system_prompt == "Be brief."


async def test_a_session_s_priority_goes_with_its_requests_and_is_kept(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press("ctrl+s")
        screen = rig.app.screen
        screen.query_one("#priority", Input).value = "high"
        await rig.settle()
        assert "✗ must be a whole number" in rig.screen_text()
        screen.query_one("#priority", Input).value = "-2"
        await rig.press("ctrl+s")
        await rig.send("go")
        await rig.finish()
        await rig.press("ctrl+n")
        await rig.press("ctrl+s")
        assert rig.app.screen.query_one("#priority", Input).value == "-2", "a new tab is like the one before"
        await rig.press("ctrl+r", "ctrl+s")
        await rig.send("and you?")
        assert [c.priority for c in rig.engine.commands if isinstance(c, Submit)] == [-2, 0]
    async with launch() as rig:
        assert [session.priority for session in rig.workspace.sessions] == [-2, 0]


async def test_defaults_are_one_key_away(launch: Launch) -> None:
    async with launch() as rig:
        await rig.press("ctrl+s")
        rig.app.screen.query_one("#temperature", Input).value = "3"
        await rig.press("ctrl+r")
        assert rig.app.screen.query_one("#temperature", Input).value == "0.3"
