"""What a change of options does to predictions, on a tiny quantized model with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.bench.accuracy import PASSAGE, Difference, compare
from inference.errors import ConfigError
from inference.protocol import EngineConfig
from tests.inference import tiny


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 128, "intermediate_size": 256}
    return tiny.checkpoint(tmp_path_factory.mktemp("quantized"), quantization={"bits": 4, "group_size": 64}, **sizes)


def differing(model: Path, change: EngineConfig, limit: int = 60, text: str = "") -> Difference:
    return compare(
        str(model), EngineConfig(), change, text or PASSAGE.read_text(), limit=limit, progress=lambda what: None
    )


def test_rounding_activations_changes_predictions_a_little(quantized: Path) -> None:
    found = differing(quantized, EngineConfig(activations="int8"))
    assert found.tokens == 59
    assert 1e-6 < found.mean <= found.largest < 0.3
    assert found.mean <= found.p95 <= found.largest
    assert 0 < found.divergence < 0.1
    assert found.perplexity != found.changed_perplexity


def test_the_same_options_differ_by_nothing(quantized: Path) -> None:
    found = differing(quantized, EngineConfig())
    assert found.mean == found.largest == found.divergence == 0
    assert found.same_choice == 1


def test_another_implementation_differs_by_rounding_alone(quantized: Path) -> None:
    assert differing(quantized, EngineConfig(kernels="reference")).largest < 1e-3


def test_a_text_of_one_token_has_nothing_to_predict(quantized: Path) -> None:
    with pytest.raises(ConfigError, match="longer"):
        differing(quantized, EngineConfig(), limit=1)
