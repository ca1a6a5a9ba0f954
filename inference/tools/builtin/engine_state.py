"""What the engine did in its last step, for a model that is asked about itself."""

from __future__ import annotations

from inference.protocol import StepRecord
from inference.tools.context import Context
from inference.tools.definition import Effect, ToolError, tool

_SHOWN = 20
"""Requests that are told apart; further ones are counted."""


@tool(effect=Effect.READS)
def engine_state(context: Context) -> str:
    """Tell what the inference engine did in its last step: the batch, who waits and why, and the KV cache's blocks."""
    if context.engine_state is None:
        raise ToolError("the engine's state can't be seen from here")
    return context.engine_state().strip() or "the engine has not computed a step yet"


def describe_step(record: StepRecord | None) -> str:
    """A step as plain text, which an app can lend to tools as `Context.engine_state`."""
    if record is None:
        return "the engine has not computed a step yet"
    lines = [
        f"step {record.step}: {_count(len(record.scheduled), 'request')} in the batch, "
        f"{_count(record.prefill_tokens, 'prefill token')} and {_count(record.decode_tokens, 'decode token')}, "
        f"{record.phases.total * 1000:.1f} ms"
    ]
    for each in record.scheduled[:_SHOWN]:
        work = f"prefill, after {each.num_computed} computed" if each.is_prefill else "decode"
        if each.drafts:
            work = f"decode, {_count(each.drafts, 'draft')} to verify among them"
        lines.append(f"in the batch: session {each.session}, {_count(each.num_tokens, 'token')} ({work})")
    for waits in record.unscheduled[:_SHOWN]:
        short = f", short of {waits.missing}" if waits.missing else ""
        lines.append(f"not in the batch: session {waits.session}, {waits.reason}{short}")
    hidden = max(0, len(record.scheduled) - _SHOWN) + max(0, len(record.unscheduled) - _SHOWN)
    if hidden:
        lines.append(f"and {_count(hidden, 'further request')}")
    blocks = record.blocks
    lines.append(f"KV blocks: {blocks.used} used, {blocks.free} free, {blocks.total} in all, {blocks.cached} cached")
    lines += [
        f"session {row.session} ({row.state}): {row.prompt_tokens} prompt tokens, {row.cached_tokens} of them from the "
        f"prefix cache, {row.output_tokens} output tokens, {_count(row.blocks, 'block')}"
        for row in record.requests[:_SHOWN]
    ]
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
