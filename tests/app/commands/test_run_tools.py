"""`glasschat run --tools` on the demo model: rounds, refusals, and what --yes allows."""

import json
import sys
from pathlib import Path

import pytest

from inference.llm import LLM, Completion

DONE = "All is done."


@pytest.fixture
def scripted(monkeypatch):
    """The demo model, but with words of the test's own: the model itself was not trained to edit files."""

    real = LLM.stream

    def script(*answers):
        left = [*answers, DONE]
        prompts = []

        def stream(self, prompt, params=None):
            prompts.append(prompt)
            found = real(self, prompt, params)
            next(found)
            found.close()
            text = left.pop(0)
            whole = found.completion
            fields = {name: getattr(whole, name) for name in Completion.__slots__} | {"text": text}
            return Scripted(text, Completion(**fields))

        monkeypatch.setattr(LLM, "stream", stream)
        return prompts

    return script


class Scripted:
    def __init__(self, text, completion):
        self.text, self.completion = text, completion

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        from inference.protocol import Delta

        return iter([Delta("x", self.text[at : at + 5], ()) for at in range(0, len(self.text), 5)])


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_the_demo_model_computes(glasschat):
    outcome = glasschat("run", "--tools", "-p", "what is 4817 * 26?")
    assert outcome.code == 0
    assert "125242" in outcome.out.replace(",", "")
    assert "tool_call" not in outcome.out
    assert outcome.err.splitlines() == ['calculator(expression="4817 * 26") done: 125242']


def test_json_tells_every_call(glasschat):
    found = glasschat("run", "--tools", "--json", "-p", "what is 4817 * 26?").json
    assert found["outcome"] == "answered"
    assert "125242" in found["text"].replace(",", "")
    [only] = found["calls"]
    assert (only["tool"], only["state"], only["result"]) == ("calculator", "done", "125242")
    assert found["finish_reason"] == "stop"


def test_changes_are_refused_unless_they_were_allowed(glasschat, scripted, tmp_path):
    (tmp_path / "work").mkdir()
    file = tmp_path / "work" / "notes.md"
    file.write_text("hello world\n")
    edit = call("edit_file", path="notes.md", old="world", new="there")

    prompts = scripted(edit)
    outcome = glasschat("run", "--tools", "--workspace", tmp_path / "work", "-p", "edit")
    assert outcome.out == f"{DONE}\n"
    assert "denied" in outcome.err
    assert file.read_text() == "hello world\n"
    assert "--yes edit_file was not given" in prompts[1].messages[-1].content

    scripted(edit)
    outcome = glasschat("run", "--tools", "--workspace", tmp_path / "work", "--yes", "edit_file", "-p", "edit")
    assert "+hello there" in outcome.err
    assert file.read_text() == "hello there\n"


def test_the_text_around_calls_is_printed_without_them(glasschat, scripted):
    scripted(f"Let me see.\n{call('calculator', expression='1 + 1')}\n")
    outcome = glasschat("run", "--tools", "-p", "hi")
    assert outcome.out.split() == ["Let", "me", "see.", "All", "is", "done."]


def test_a_model_that_only_calls_is_stopped(glasschat, scripted, tmp_path):
    (tmp_path / "tools.toml").write_text("max_rounds = 2\npackages = false\n")
    scripted(*[call("clock")] * 5)
    outcome = glasschat("run", "--tools", "--tools-file", tmp_path / "tools.toml", "-p", "hi")
    assert outcome.code == 1
    assert "after 2 rounds" in outcome.err


def test_tools_of_a_server_and_of_a_file(glasschat, scripted, tmp_path):
    server = Path(__file__).parents[2] / "inference" / "tools" / "mcp_server.py"
    (tmp_path / "mine.py").write_text(
        "from inference.tools import Effect, tool\n\n\n@tool(effect=Effect.READS)\n"
        'def shout(text: str) -> str:\n    """Make it loud."""\n    return text.upper()\n'
    )
    (tmp_path / "tools.toml").write_text(
        f'files = ["mine.py"]\n[mcp.sums]\ncommand = ["{sys.executable}", "{server}", "well"]\ntrusted = true\n'
        f'[mcp.broken]\ncommand = ["{sys.executable}", "{server}", "dies"]\n'
    )
    scripted(call("sums.add", a=2, b=3) + call("shout", text="hi") + call("sums.write"))
    outcome = glasschat("run", "--tools", "--tools-file", tmp_path / "tools.toml", "-p", "hi")
    assert outcome.code == 0
    assert "the MCP server broken can't be used" in outcome.err
    assert "sums.add(a=2, b=3) done: 5" in outcome.err
    assert 'shout(text="hi") done: HI' in outcome.err
    assert "sums.write() denied: error: the user said no" in outcome.err


def test_the_engine_tells_what_it_did(glasschat, scripted):
    scripted(call("engine_state"))
    outcome = glasschat("run", "--tools", "-p", "hi")
    assert "engine_state() done: step 1: 1 request in the batch" in outcome.err
    assert "KV blocks: " in outcome.err


def test_a_made_up_result_is_cut(glasschat, scripted):
    scripted(f"{call('calculator', expression='1 + 1')}\n<tool_response>\n3\n</tool_response>\nIt is 3.")
    outcome = glasschat("run", "--tools", "-p", "hi")
    assert outcome.out == f"{DONE}\n"
    assert "make up a tool's result" in outcome.err
    assert "done: 2" in outcome.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--yes", "edit_file"], "--yes does nothing without --tools"),
        (["--workspace", "."], "--workspace does nothing without --tools"),
        (["--tools", "--raw"], "use one of the two"),
        (["--tools", "--yes", "fly"], "--yes fly names no tool; the tools are calculator, clock"),
        (["--tools", "--workspace", "/"], "can't be a workspace"),
        (["--tools", "--workspace", "/no/such/place"], "not a directory"),
        (["--tools", "--tools-file", "/no/such.toml"], "can't be read"),
    ],
)
def test_options_that_mean_nothing(glasschat, options, said):
    outcome = glasschat("run", *options, "-p", "hi")
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.out == ""
