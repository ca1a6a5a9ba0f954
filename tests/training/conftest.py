"""The training's modules are a folder of scripts, not a package: this lets tests import them."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

ASSETS = Path(__file__).resolve().parents[2] / "assets"
sys.path.insert(0, str(ASSETS / "training"))

PROMPT = "<|im_start|>user\nwhat is a block table?<|im_end|>\n<|im_start|>assistant\n"
MORE = "A list of blocks.<|im_end|>\n<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\nIt is short."


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ASSETS / "model" / "tokenizer.json"))


@cache
def whole_corpus() -> Any:
    """The corpus that is published, loaded once for all tests."""
    import corpus

    return corpus.load()


@pytest.fixture(scope="session")
def sampler() -> Any:
    """Of the whole corpus; it takes a while to be made."""
    from conversations import ConversationSampler

    return ConversationSampler(whole_corpus())


@pytest.fixture(scope="module")
def learners(tokenizer: Tokenizer) -> Any:
    """Namer, writer and reckoner as they might be after some training: no part of them is zero."""
    from naming import Namer
    from reckoning import Reckoner
    from writing import Writer

    torch.manual_seed(3)
    namer, writer = shaken(Namer(tokenizer)), shaken(Writer(tokenizer))
    reckoner = shaken(Reckoner(tokenizer, namer, writer))
    return namer, writer, reckoner


def shaken(learner: Any) -> Any:
    for parameter in learner.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    return learner.eval()


@pytest.fixture(scope="module")
def inputs(tokenizer: Tokenizer) -> torch.Tensor:
    thought = tokenizer.id_to_token(tokenizer.get_vocab_size() - 5)
    return torch.tensor([tokenizer.encode(PROMPT + thought + MORE).ids])


@pytest.fixture(scope="module")
def start(tokenizer: Tokenizer) -> int:
    """Of the first answer."""
    return len(tokenizer.encode(PROMPT).ids) - 1


@pytest.fixture(scope="module")
def demo(learners: Any, tokenizer: Tokenizer, inputs: torch.Tensor, start: int) -> Any:
    from assembly import assemble
    from tokenizer import Example

    ids = inputs[0].tolist()
    return assemble(*learners, tokenizer, [Example(ids, [place > start for place in range(len(ids))], [start])]).eval()
