"""A recording computed again by a model: the same tokens, or the first that differs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from inference.engine.start import start
from inference.protocol import Delta, EngineConfig, Submit, TokenPrompt
from inference.scheduling.pace import Dictated
from inference.scheduling.recording import Arrival, Change, Departure, RecordedStep, read

_LIVE = tuple(option.name for option in fields(EngineConfig) if option.metadata["live"])


@dataclass(frozen=True, slots=True)
class Recomputed:
    tokens: int
    """That were the same."""
    difference: str = ""
    """The first that was not, in a sentence; empty if there is none."""


def recompute(model: str, file: Path) -> Recomputed:
    """Give an engine of its own everything that the recorded one got, at the same steps.

    Raises ConfigError for what is no recording, and ModelError and ConfigError like loading.
    """
    recording = read(file)
    header = recording.header
    config = replace(header.config, num_kv_blocks=header.num_blocks, block_size=header.block_size)
    engine = start(model, config)
    engine.pace = pace = Dictated()
    same = 0
    for entry in recording.entries:
        match entry:
            case Arrival():
                prompt = TokenPrompt(entry.prompt_ids)
                # The engine's own limits cut requests that had none, as they did then.
                command = Submit(entry.request_id, entry.session, prompt, entry.params, entry.priority)
                engine.submit(command, entry.output_ids)
            case Departure(request_id=request_id):
                engine.abort(request_id)
            case Change(config=changed):
                engine.configure({name: getattr(changed, name) for name in _LIVE})
            case RecordedStep():
                pace.pace, engine.speculator.dictated = entry.pace, entry.wanted_drafts
                found: dict[str, list[int]] = {}
                for event in engine.step():
                    if isinstance(event, Delta):
                        found.setdefault(event.request_id, []).extend(event.token_ids)
                for output in entry.outputs:
                    now = found.get(output.request_id, [])[:1]
                    found[output.request_id] = found.get(output.request_id, [])[1:]
                    if output.token_id >= 0 and now != [output.token_id]:
                        instead = f"token {now[0]}" if now else "none"
                        return Recomputed(
                            same,
                            f"step {entry.step} gave {output.request_id} token {output.token_id}, and now {instead}",
                        )
                    same += output.token_id >= 0
    return Recomputed(same)
