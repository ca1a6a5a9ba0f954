"""Running calls: previews, approvals, time limits, cancellation, results that are too long."""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.tools.builtin.stored import read_result
from inference.tools.context import LEAST_RESULT, Context, MemoryResults
from inference.tools.definition import Effect, Preview, Tool, ToolError, tool, visible
from inference.tools.receipts import CallState, Decision, Receipt, Verdict
from inference.tools.results import LINE_WIDTH, bounded, size, stored_lines
from inference.tools.rounds import Outcome, Phase, Rounds
from inference.tools.running import serve
from inference.tools.toolbox import Toolbox, standard_tools
from inference.tools.workspace import Workspace


def written(*calls: tuple[str, dict[str, Any]]) -> str:
    return "\n".join(
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>" for name, arguments in calls
    )


class Journal:
    """Keeps receipts, and says yes."""

    def __init__(self, decision: Decision | Verdict = Decision.ONCE) -> None:
        self.kept: list[Receipt] = []
        self.asked: list[tuple[Receipt, Preview]] = []
        self.decision = decision

    async def keep(self, receipt: Receipt) -> None:
        await asyncio.sleep(0)
        self.kept.append(receipt)

    async def ask(self, receipt: Receipt, preview: Preview) -> Decision | Verdict:
        self.asked.append((receipt, preview))
        return self.decision

    def states(self, tool: str) -> list[CallState]:
        return [receipt.state for receipt in self.kept if receipt.tool == tool]


async def made(
    toolbox: Toolbox, text: str, context: Context | None = None, journal: Journal | None = None
) -> tuple[Rounds, list[str]]:
    rounds = Rounds(toolbox)
    rounds.answered("a", text)
    journal = journal or Journal()
    await serve(rounds, context or Context(), journal.ask, journal.keep)
    return rounds, [message.content for message in rounds.messages()[1:]]


async def test_an_exchange_with_files(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("hello world\n")
    context = Context(workspace=Workspace(tmp_path))
    journal = Journal()
    text = written(
        ("calculator", {"expression": "6 * 7"}),
        ("read_file", {"path": "notes.md", "start": "1"}),
        ("edit_file", {"path": "notes.md", "old": "world", "new": "there"}),
        ("read_file", {"path": "notes.md"}),
    )
    rounds, results = await made(standard_tools(context), text, context, journal)
    assert [result.splitlines()[0] for result in results] == [
        "42",
        "hello world",
        "notes.md was changed:",
        "hello there",
    ]
    assert rounds.phase is Phase.ANSWER
    [(receipt, shown)] = journal.asked
    assert "+hello there" in shown.text
    assert shown.scope == "every edit of notes.md"
    assert journal.states("edit_file") == [CallState.WAITING, CallState.READY, CallState.RUNNING, CallState.DONE]
    assert receipt.tool == "edit_file"
    assert journal.kept[-1].result_chars == len("hello there")


async def test_an_edit_whose_file_changed_after_the_yes_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("hello world\n")
    context = Context(workspace=Workspace(tmp_path))

    class Slow(Journal):
        async def ask(self, receipt: Receipt, preview: Preview) -> Decision:
            (tmp_path / "notes.md").write_text("hello world, and more\n")
            return Decision.ONCE

    text = written(("edit_file", {"path": "notes.md", "old": "world", "new": "there"}))
    _, results = await made(standard_tools(context), text, context, Slow())
    assert "changed since the diff was shown" in results[0]
    assert (tmp_path / "notes.md").read_text() == "hello world, and more\n"


async def test_nobody_is_asked_about_what_cannot_be_done(tmp_path: Path) -> None:
    context = Context(workspace=Workspace(tmp_path))
    journal = Journal()
    text = written(
        ("edit_file", {"path": "missing", "old": "a", "new": "b"}), ("run_command", {"command": "no-such-x"})
    )
    _, results = await made(standard_tools(context), text, context, journal)
    assert journal.asked == []
    assert all(result.startswith("error: ") for result in results)


async def test_a_no_reaches_the_model_with_its_reason() -> None:
    ran = []

    @tool(effect=Effect.CHANGES)
    def change(to: str) -> str:
        """Change."""
        ran.append(to)
        return to

    _, results = await made(
        Toolbox([change]), written(("change", {"to": "x"})), journal=Journal(Verdict(Decision.NO, "later"))
    )
    assert results == ["error: the user said no to this call: later"]
    assert ran == []


async def test_a_yes_for_the_session_is_asked_for_once_and_every_receipt_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("one two\n")
    context = Context(workspace=Workspace(tmp_path))
    journal = Journal(Decision.SESSION)
    text = written(
        ("edit_file", {"path": "notes.md", "old": "one", "new": "1"}),
        ("edit_file", {"path": "notes.md", "old": "two", "new": "2"}),
    )
    rounds, _ = await made(standard_tools(context), text, context, journal)
    assert (tmp_path / "notes.md").read_text() == "1 2\n"
    assert len(journal.asked) == 1
    for call in rounds.receipts:
        states = [receipt.state for receipt in journal.kept if receipt.call_id == call]
        assert states == [CallState.WAITING, CallState.READY, CallState.RUNNING, CallState.DONE]


async def test_the_receipt_is_kept_before_the_call_begins() -> None:
    journal = Journal()
    seen: list[CallState] = []

    @tool(effect=Effect.READS)
    def look() -> str:
        """Look."""
        seen.extend(receipt.state for receipt in journal.kept)
        return "x"

    await made(Toolbox([look]), written(("look", {})), journal=journal)
    assert seen == [CallState.READY, CallState.RUNNING]


async def test_a_store_that_fails_stops_before_the_effect() -> None:
    ran = []

    @tool(effect=Effect.CHANGES)
    def change() -> str:
        """Change."""
        ran.append(1)
        return ""

    class Full(Journal):
        async def keep(self, receipt: Receipt) -> None:
            if receipt.state is CallState.RUNNING:
                raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        await made(Toolbox([change]), written(("change", {})), journal=Full())
    assert ran == []


async def test_neighbouring_reads_run_together_and_do_not_block_the_loop() -> None:
    together = threading.Barrier(3, timeout=5)

    @tool(effect=Effect.READS)
    def meet() -> int:
        """Wait for the others."""
        return together.wait()

    _, results = await made(Toolbox([meet]), written(*[("meet", {})] * 3))
    assert sorted(results) == ["0", "1", "2"]


async def test_a_tool_that_takes_too_long_is_given_up_and_told() -> None:
    told = threading.Event()

    @tool(effect=Effect.CHANGES, timeout=0.2)
    def hang(context: Context) -> str:
        """Hang."""
        context.cancelled.wait(10)
        told.set()
        return ""

    began = time.monotonic()
    _, results = await made(Toolbox([hang]), written(("hang", {})))
    assert time.monotonic() - began < 5
    assert results == ["error: hang took longer than 0.2 s and was given up; it may still have taken effect"]
    assert await asyncio.to_thread(told.wait, 5)


async def test_cancelling_ends_the_exchange_and_says_so() -> None:
    begun = asyncio.Event()
    stopped = []

    @tool(effect=Effect.READS)
    async def slow() -> str:
        """Take long."""
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(1)
        return ""

    rounds = Rounds(Toolbox([slow]))
    rounds.answered("a", written(("slow", {}), ("slow", {})))
    journal = Journal()
    task = asyncio.create_task(serve(rounds, Context(), journal.ask, journal.keep))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rounds.outcome is Outcome.CANCELLED
    assert stopped
    assert {receipt.state for receipt in journal.kept[-2:]} == {CallState.CANCELLED}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ToolError("no such thing"), "error: no such thing"),
        (KeyError("x"), "error: the tool failed: KeyError: 'x'"),
        (StopIteration("x"), "error: the tool failed: RuntimeError: StopIteration: x"),
        (TimeoutError("its own"), "error: the tool failed: TimeoutError: its own"),
        (SystemExit(3), "error: the tool failed: RuntimeError: SystemExit: 3"),
        (ToolError("<|im_end|> stop"), "error: < |im_end|> stop"),
        (ToolError("y" * 10_000), "error: " + "y" * 2000),
    ],
)
async def test_whatever_a_tool_raises_becomes_a_result(error: BaseException, said: str) -> None:
    @tool(effect=Effect.READS)
    def fail() -> str:
        """Fail."""
        raise error

    _, results = await made(Toolbox([fail]), written(("fail", {})))
    assert results == [said]


async def test_a_coroutine_cannot_end_the_app_either() -> None:
    @tool(effect=Effect.READS)
    async def leave() -> str:
        """Leave."""
        sys.exit("now")

    _, results = await made(Toolbox([leave]), written(("leave", {})))
    assert results == ["error: the tool failed: SystemExit: now"]


async def test_a_result_that_cannot_be_stored_is_not_lost() -> None:
    class Full(MemoryResults):
        def put(self, call_id: str, text: str) -> None:
            raise OSError("the disk is full")

    @tool(effect=Effect.READS)
    def long() -> str:
        """Say much."""
        return "word " * 5000

    rounds, [result] = await made(Toolbox([long]), written(("long", {})), Context(results=Full(), result_bytes=600))
    assert result.startswith("word word")
    assert result.endswith("[cut here, as the rest could not be stored: the disk is full]")
    assert next(iter(rounds.receipts.values())).result_chars == 25_000


@pytest.mark.parametrize(
    ("value", "shown"), [({"a": [1]}, '{"a": [1]}'), (None, "null"), (1.5, "1.5"), (Path("x"), '"x"'), ("\ud800", "?")]
)
async def test_whatever_a_tool_returns_becomes_text(value: object, shown: str) -> None:
    @tool(effect=Effect.READS)
    def give() -> Any:
        """Give."""
        return value

    _, results = await made(Toolbox([give]), written(("give", {})))
    assert results == [shown]


texts = st.lists(st.text("ab<|>\n漢é", max_size=30) | st.just("x" * 3 * LINE_WIDTH), max_size=60).map("\n".join)


@given(texts, st.integers(600, 3000))
def test_a_long_result_can_be_read_to_its_end(text: str, most: int) -> None:
    store = MemoryResults()
    result = bounded(text, "call", store, most)
    assert size(result.text.replace("< ", "<")) <= most + 120
    if size(text) <= most:
        assert result.text.replace("< ", "<") == text.replace("< ", "<")
        return
    context = Context(results=store, result_bytes=most)
    collected: list[str] = []
    while len(collected) < len(stored_lines(text)):
        part = read_result("call", context, start=len(collected) + 1).split("\n")
        assert size("\n".join(part)) <= max(most, 3 * LINE_WIDTH + 200)
        collected += part[:-1]
    assert collected == stored_lines(text)
    assert "".join(collected) == "".join(text.splitlines())


@settings(max_examples=25, deadline=None)
@given(st.integers(300, 200_000), st.integers(1, 16), st.sampled_from(["word\n", "漢字\n", "漢字", "é"]))
async def test_the_results_of_a_round_leave_room_in_the_context(max_model_len: int, calls: int, word: str) -> None:
    @tool(effect=Effect.READS)
    def long() -> str:
        """Say much."""
        return word * 5_000

    context = Context().within(max_model_len)
    _, results = await made(Toolbox([long]), written(*[("long", {})] * calls), context)
    assert len(results) == calls
    notes = 130 * calls
    most = max(max_model_len * 3 // 5, LEAST_RESULT * calls)
    assert sum(map(size, results)) <= most + notes
    assert all(result.startswith(word[:1]) and "reads on]" in result for result in results)
    if calls == 1:
        assert size(results[0]) >= min(max_model_len * 3 // 5, 6_000) - LINE_WIDTH * 3 - 3, "no less than there is room"


async def test_an_error_takes_no_more_room_than_a_result() -> None:
    @tool(effect=Effect.READS)
    def fail() -> str:
        """Fail."""
        raise ToolError("no " * 5000)

    _, [result] = await made(Toolbox([fail]), written(("fail", {})), Context().within(1000))
    assert len(result) <= 620


def test_reading_what_is_not_there() -> None:
    context = Context()
    context.results.put("call", "one\ntwo")
    with pytest.raises(ToolError, match="no result"):
        read_result("other", context)
    with pytest.raises(ToolError, match="2 lines"):
        read_result("call", context, start=3)


def test_memory_forgets_the_oldest() -> None:
    store = MemoryResults(most_chars=10)
    for name in "abc":
        store.put(name, name * 4)
    assert [store.get(name) for name in "abc"] == [None, "bbbb", "cccc"]
    store.put("d", "d" * 100)
    assert store.get("d") == "d" * 100


@given(st.text(max_size=50))
def test_visible_text_steers_nothing(text: str) -> None:
    shown = visible(text)
    assert all(c.isprintable() or c in "\n\t" or ord(c) > 0x7F for c in shown)
    assert not set(shown) & set("\x1b\r\x07\x00\u202e\u2066\u200b\u2028")
    shown.encode()  # no half of a character is left


def test_no_character_of_visible_text_is_hidden() -> None:
    """By another copy of Unicode's properties, over all characters there are."""
    shown = visible("".join(map(chr, range(sys.maxunicode + 1))))
    hidden = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Bidi_Control}\p{Cc}\p{Cs}\u2800]")
    assert set(hidden.findall(shown)) == {" ", "\t", "\n"}


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S"))))
def test_visible_text_keeps_every_character_that_can_be_seen(text: str) -> None:
    seen = regex.sub(r"[\p{Default_Ignorable_Code_Point}\u2800\U00016fe4\U0001d159]", "", text)
    assert visible(seen) == seen


def test_tools_are_still_functions() -> None:
    @tool(effect=Effect.READS)
    def twice(x: int) -> int:
        """Double."""
        return 2 * x

    assert isinstance(twice, Tool)
    assert twice(4) == 8
