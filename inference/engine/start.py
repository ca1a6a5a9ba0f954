"""From a model's name and options to an engine: its model, its draft model, its KV pool."""

from __future__ import annotations

from collections.abc import Callable

from inference.engine.engine import Engine
from inference.errors import ModelError
from inference.model import widened
from inference.model.loader import LoadedModel, load
from inference.ops.attention import spelled
from inference.protocol import EngineConfig
from inference.speculation.fit import misfit

DEMO, ITS_DRAFT = "demo", "draft"


def start(model: str, config: EngineConfig, progress: Callable[[str], None] = lambda stage: None) -> Engine:
    """Load all that is asked for. Raises ModelError and ConfigError, as loading does."""
    kernels = spelled(config.kernels, config.attention)
    loaded = load(model, dtype=config.dtype, kernels=kernels, activations=config.activations, progress=progress)
    draft = _draft(loaded, config, progress)
    progress("allocating the KV cache")
    return Engine(loaded, config, draft)


def _draft(target: LoadedModel, config: EngineConfig, progress: Callable[[str], None]) -> LoadedModel | None:
    name = own_draft(target.info.name) if config.draft == "auto" else config.draft
    if name == "none":
        return None
    draft = load(
        name,
        dtype=target.dtype,
        kernels=spelled(config.kernels, config.attention),
        activations=config.activations,
        progress=lambda stage: progress(f"draft model: {stage}"),
    )
    if reason := misfit(target, draft):
        raise ModelError(f"the draft model {name} can't draft for {target.info.name}: it {reason}; give --draft none")
    return draft


def own_draft(model: str) -> str:
    """The model that comes with this one to draft for it: the demo's, at whatever size the demo is; or none."""
    return ITS_DRAFT if model == DEMO or model.startswith(widened.PREFIX) else "none"
