"""Running calls: in threads or as coroutines of the caller's loop, with a time limit, never in the engine's process."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from inference.tools.calls import CallError, digest
from inference.tools.context import Context, MemoryResults
from inference.tools.definition import Effect, Preview, Tool, ToolError, visible
from inference.tools.receipts import Decision, Receipt, Verdict
from inference.tools.results import MAX_ERROR_CHARS, STORED_OVER, Result, bounded, cut, result_of_error, size
from inference.tools.rounds import Phase, Rounds
from inference.tools.toolbox import Toolbox

Ask = Callable[[Receipt, Preview], Awaitable[Decision | Verdict]]
Keep = Callable[[Receipt], Awaitable[None]]


async def serve(rounds: Rounds, context: Context, ask: Ask, keep: Keep) -> None:
    """Make all calls of the last answer, asking where that is needed; then the phase is ANSWER or OVER.

    `ask` gets a waiting call and what to show; it may take as long as the user does. `keep` is awaited with each new
    state of a receipt, and what it was given must be on disk when it returns: a call begins only after that.
    If this task is cancelled, running calls are stopped, commands with all their children, and the rounds are over.
    """
    context = context.shared(len(rounds.latest))
    try:
        for receipt in rounds.latest:
            await keep(receipt)
        while rounds.phase is Phase.TOOLS:
            if ready := rounds.ready:
                await asyncio.gather(*(_make(rounds, receipt, context, keep) for receipt in ready))
            elif (waiting := rounds.waiting) is not None:
                await _decide(rounds, waiting, context, ask, keep)
    except asyncio.CancelledError:
        for receipt in rounds.cancel(time.time()):
            with suppress(asyncio.CancelledError):
                await asyncio.shield(keep(receipt))
        raise


async def preview(toolbox: Toolbox, receipt: Receipt, context: Context) -> Preview:
    """What the user is to see of a call. Raises ToolError if it can't succeed, so that nobody need be asked."""
    tool, arguments = _checked(toolbox, receipt)
    shown = Preview("arguments", visible(json.dumps(dict(receipt.arguments), ensure_ascii=False, indent=2)))
    if tool.preview is not None:
        context = replace(context, call_id=receipt.call_id, cancelled=threading.Event())
        shown = await _within(tool, tool.preview, _lend(tool, arguments, context), context)
    scope = tool.scope(**arguments) if tool.scope is not None else f"every call of {tool.name}"
    return replace(shown, scope=visible(scope), digest=shown.digest or digest(shown.text))


async def run(toolbox: Toolbox, receipt: Receipt, context: Context) -> Result:
    """Run one call. Whatever goes wrong in it becomes a result; only cancellation is raised."""
    context = replace(context, call_id=receipt.call_id, approved=receipt.approved, cancelled=threading.Event())
    try:
        tool, arguments = _checked(toolbox, receipt)
        value = await _within(tool, tool.function, _lend(tool, arguments, context), context)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except (ToolError, CallError) as error:
        return _error(str(error), context)
    except (Exception, SystemExit) as error:
        return _error(f"the tool failed: {type(error).__name__}: {error}", context)
    clean = text.encode("utf-8", errors="replace").decode()
    try:
        return bounded(clean, receipt.call_id, context.results, context.result_bytes)
    except Exception as error:  # the call was made: what came of it must not be lost with the rest
        kept = f"{cut(clean, context.result_bytes)}\n[cut here, as the rest could not be stored: {error}]"
        return replace(bounded(kept, receipt.call_id, MemoryResults(), size(kept)), chars=len(clean))


async def _make(rounds: Rounds, receipt: Receipt, context: Context, keep: Keep) -> None:
    await keep(rounds.began(receipt.call_id, time.time()))
    result = await run(rounds.toolbox, receipt, context)
    await keep(rounds.ended(receipt.call_id, result, time.time()))


async def _decide(rounds: Rounds, receipt: Receipt, context: Context, ask: Ask, keep: Keep) -> None:
    try:
        shown = await preview(rounds.toolbox, receipt, context)
    except Exception as error:
        said = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
        await keep(rounds.ended(receipt.call_id, _error(said, context), time.time()))
        return
    answer = await ask(receipt, shown)
    verdict = answer if isinstance(answer, Verdict) else Verdict(answer)
    for decided in rounds.decide(receipt.call_id, verdict.decision, shown.digest, verdict.reason):
        await keep(decided)


def _checked(toolbox: Toolbox, receipt: Receipt) -> tuple[Tool, dict[str, Any]]:
    tool = toolbox.get(receipt.tool)
    if tool is None:
        raise ToolError(f"the tool {receipt.tool} is not there any more")
    return tool, tool.check(receipt.arguments)


def _lend(tool: Tool, arguments: dict[str, Any], context: Context) -> dict[str, Any]:
    return arguments if tool.context_parameter is None else {**arguments, tool.context_parameter: context}


def _error(sentence: str, context: Context) -> Result:
    return result_of_error(sentence[: max(STORED_OVER, min(MAX_ERROR_CHARS, context.result_bytes))])


async def _within(tool: Tool, function: Callable[..., Any], arguments: dict[str, Any], context: Context) -> Any:
    """The function's value, within the tool's time."""
    work = function(**arguments) if inspect.iscoroutinefunction(function) else _in_thread(function, arguments)
    try:
        async with asyncio.timeout(tool.timeout) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise  # the tool's own
        goes_on = "" if tool.effect is Effect.READS else "; it may still have taken effect"
        raise ToolError(f"{tool.name} took longer than {tool.timeout:g} s and was given up{goes_on}") from None
    finally:
        context.cancelled.set()


async def _in_thread(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Like `asyncio.to_thread`, in a thread that does not keep the process alive if it hangs."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def work() -> None:
        value: Any = None
        problem: BaseException | None = None
        try:
            value = function(**arguments)
        except StopIteration as error:  # no future can carry it
            problem = RuntimeError(f"StopIteration: {error}")
        except Exception as error:
            problem = error
        except BaseException as error:  # sys.exit in a tool must not end the app
            problem = RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value, problem)

    threading.Thread(target=work, name="tool", daemon=True).start()
    return await future
