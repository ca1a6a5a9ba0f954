"""`glasschat run` on a model that thinks first: the answer to stdout, the thought to the terminal and to `--json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from app.commands.printing import DIM, PLAIN, Printer
from app.commands.run import NO_ANSWER
from tests.app.commands.conftest import Glasschat
from tests.app.commands.test_run_tools import call, scripted
from tests.inference import tiny

__all__ = ["scripted"]  # a fixture

WHOLE = "<think>cat: where</think>\nOn the mat."
ASKED = ("run", "-p", "where", "--max-tokens", 1, "--logit-bias", f"{tiny.TOKENIZER_SIZE}=100")
"""A question that the model below answers with its one token that is a whole answer."""


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.checkpoint(tmp_path_factory.mktemp("thinker"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {str(tiny.TOKENIZER_SIZE): {"content": WHOLE, "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_a_pipe_gets_the_answer_alone(glasschat: Glasschat, thinker: Path) -> None:
    outcome = glasschat(*ASKED, "--model", thinker)
    assert (outcome.out, outcome.err) == ("On the mat.\n", "")


def test_json_has_the_thought_beside_the_text(glasschat: Glasschat, thinker: Path) -> None:
    found = glasschat(*ASKED, "--model", thinker, "--json").json
    assert (found["text"], found["thought"]) == ("On the mat.", "cat: where")
    assert found["token_ids"] == [tiny.TOKENIZER_SIZE]


def test_json_says_null_where_there_is_none(glasschat: Glasschat, model: Path) -> None:
    found = glasschat("run", "--model", model, "-p", "the cat", "--max-tokens", 3, "--json").json
    assert found["thought"] is None


def test_raw_text_is_left_as_it_is(glasschat: Glasschat, thinker: Path) -> None:
    assert glasschat(*ASKED, "--model", thinker, "--raw").out == f"{WHOLE}\n"
    found = glasschat(*ASKED, "--model", thinker, "--raw", "--json").json
    assert (found["text"], found["thought"]) == (WHOLE, None)


def test_a_template_that_opens_the_thought(glasschat: Glasschat, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}<|im_start|><think>\n"
    folder = tiny.checkpoint(tmp_path, chat_template=template)
    asked = ("run", "--model", folder, "-p", "the cat", "--max-tokens", 4, "--logit-bias", "97=100")
    outcome = glasschat(*asked)
    assert (outcome.out, outcome.err) == ("", f"{NO_ANSWER}\n"), "cut off before the thought's end"
    found = glasschat(*asked, "--json").json
    assert found["text"] == ""
    assert found["thought"]


def test_with_tools_every_round_may_begin_with_one(glasschat: Glasschat, scripted) -> None:
    prompts = scripted(f"<think>sum</think>{call('calculator', expression='1 + 1')}", "<think>done</think>\n\nTwo.")
    outcome = glasschat("run", "--tools", "-p", "hi")
    assert outcome.out == "Two.\n"
    assert "think" not in outcome.err
    assert prompts[1].messages[1].content.startswith("<think>sum</think><tool_call>")
    scripted("<think>done</think>\n\nTwo.")
    found = glasschat("run", "--tools", "--json", "-p", "hi").json
    assert (found["text"], found["thought"]) == ("Two.", "done")


def test_a_terminal_shows_it_dim_and_before_the_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    printer = Printer()
    for text in ("one", " two"):
        printer.thought(text)
    printer.words("Three.")
    printer.thought("")
    printer.end()
    shown = capsys.readouterr()
    assert shown.out == "Three.\n"
    assert shown.err == f"{DIM}∴ one{PLAIN}{DIM} two{PLAIN}\n"


@pytest.mark.parametrize("piped", ["stdout", "stderr"])
def test_it_is_not_shown_where_either_is_no_terminal(
    piped: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda name=name: name != piped)
    printer = Printer()
    printer.thought("one")
    printer.end()
    assert capsys.readouterr() == ("", "")
