"""What was learned can be taken out of a model again, and learned on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import model as models
import pytest
import torch
import train
from continuation import Earlier, continue_from
from naming import Namer
from reckoning import Reckoner
from tokenizer import TOOL_TAGS, continued_tokenizer, first_thought, save_tokenizer
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from writing import Plain, Writer

from tests.training.conftest import MORE, PROMPT


@pytest.fixture(scope="module")
def published(demo: Any, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    demo.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@torch.no_grad()
def test_the_namer_names_as_it_did(
    learners: Any,
    published: Path,
    tokenizer: Tokenizer,
    inputs: torch.Tensor,
    start: int,
) -> None:
    """But for a number that all its logits are multiplied by."""
    again = Namer(tokenizer).eval()
    continue_from(again, Earlier(published, tokenizer))
    assert_scores_alike_but_for_a_factor(learners[0], again, inputs, start)


@torch.no_grad()
def test_the_writer_writes_as_it_did(
    learners: Any,
    published: Path,
    tokenizer: Tokenizer,
    inputs: torch.Tensor,
) -> None:
    again = Writer(tokenizer).eval()
    continue_from(again, Earlier(published, tokenizer))
    before, after = ((w.states(inputs) @ w.head().T).log_softmax(-1) for w in (learners[1], again))
    assert torch.allclose(after, before, atol=2e-3 * float(before.abs().max()))


@torch.no_grad()
def test_the_reckoner_reckons_as_it_did(
    learners: Any,
    published: Path,
    tokenizer: Tokenizer,
    inputs: torch.Tensor,
    start: int,
) -> None:
    """Beside the namer, but for a number that all their scores are multiplied by."""
    earlier = Earlier(published, tokenizer)
    namer, writer = Namer(tokenizer).eval(), Writer(tokenizer).eval()
    continue_from(namer, earlier)
    continue_from(writer, earlier)
    again = Reckoner(tokenizer, namer, writer).eval()
    continue_from(again, earlier)
    assert_scores_alike_but_for_a_factor(learners[2], again, inputs, start)


def test_what_is_kept_is_not_trained_but_taken_as_it_was(
    learners: Any, published: Path, tokenizer: Tokenizer, inputs: torch.Tensor, start: int, tmp_path: Path
) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "model").symlink_to(published)
    given = ["--go-on-from", str(assets), "--runs", str(tmp_path), "--keep", "namer", "writer", "reckoner"]
    sampler = SimpleNamespace(thoughts=SimpleNamespace(answers=tuple))
    learned = train.learn(
        train.parse_arguments([*given, "--only", "reckoner"]),
        sampler,  # type: ignore[arg-type]
        tokenizer,
    )
    assert [*learned] == ["namer", "writer", "reckoner"]
    for learner, again in zip((learners[0], learners[2]), (learned["namer"], learned["reckoner"]), strict=True):
        with torch.no_grad():
            assert_scores_alike_but_for_a_factor(learner, again, inputs, start)
    assert not list(tmp_path.glob("*.pt"))


def test_nothing_can_be_kept_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.parse_arguments(["--keep", "writer"])
    assert "--keep: say with --go-on-from what they are to be taken from" in capsys.readouterr().err


def assert_scores_alike_but_for_a_factor(learner: Any, again: Any, inputs: torch.Tensor, start: int) -> None:
    before, after = (each.logits(inputs, torch.tensor([start]))[0] for each in (learner, again))
    before, after = ((logits - logits.mean()) / logits.std() for logits in (before, after))
    assert torch.allclose(after, before, atol=2e-2)


@torch.no_grad()
def test_the_draft_is_as_it_was(tokenizer: Tokenizer, inputs: torch.Tensor, tmp_path: Path) -> None:
    draft, again = (Plain(models.DRAFT_SHAPE, tokenizer).eval() for _ in range(2))
    draft.model.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    continue_from(again, Earlier(tmp_path, tokenizer))
    assert torch.equal(again.model(inputs).logits, draft.model(inputs).logits)


@torch.no_grad()
def test_a_new_thought_begins_where_those_of_its_subject_were(published: Path, tokenizer: Tokenizer) -> None:
    first = first_thought(tokenizer)
    of_rope = [token for token in range(first, tokenizer.get_vocab_size()) if is_of_rope(tokenizer.id_to_token(token))]
    assert len(of_rope) > 1
    more = Tokenizer.from_str(tokenizer.to_str())
    more.add_tokens([AddedToken(f"<think>{name}</think>", normalized=False) for name in ("rope: taste", "mist: why")])
    earlier = Earlier(published, more)
    writer = Writer(more)
    fresh = writer.embedding()
    continue_from(writer, earlier)
    known, unknown = more.get_vocab_size() - 2, more.get_vocab_size() - 1
    mean = writer.embedding()[of_rope].mean(0)
    assert torch.cosine_similarity(writer.embedding()[known], mean, dim=0) > 0.999
    assert torch.allclose(writer.embedding()[unknown], fresh[unknown], atol=1e-5)


def is_of_rope(thought: str) -> bool:
    return thought.startswith(("<think>rope<", "<think>rope:"))


def test_a_tokenizer_goes_on_with_its_text_and_todays_thoughts(published: Path, tokenizer: Tokenizer) -> None:
    today = SimpleNamespace(thoughts=SimpleNamespace(tokens=["<think>one</think>", "<think>two</think>"]))
    again = continued_tokenizer(published, today)  # type: ignore[arg-type]
    first = first_thought(tokenizer)
    assert again.get_vocab_size() == first + 2
    assert again.token_to_id("<think>two</think>") == first + 1
    assert again.encode(PROMPT + MORE).ids == tokenizer.encode(PROMPT + MORE).ids


def test_a_model_with_other_tokens_of_text_is_refused(published: Path) -> None:
    few = Tokenizer(BPE())
    few.add_tokens(list(TOOL_TAGS))
    with pytest.raises(ValueError, match="has other tokens of text than this run"):
        Earlier(published, few)
