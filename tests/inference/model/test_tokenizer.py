"""The tokenizer against transformers' on the same files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import ModelError
from inference.model.tokenizer import Tokenizer
from tests.inference import tiny

TEXTS = [
    "",
    "the cat sat",
    "  à la carte\n\n",
    "naïve 漢字 😀😂",
    "x = 1234;\r\n\tend",
    "<|im_start|>user\nhi<|im_end|>\n",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def ours(folder: Path) -> Tokenizer:
    return Tokenizer.from_directory(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


@settings(deadline=None)
@given(st.one_of(st.sampled_from(TEXTS), st.text(max_size=60)))
def test_encode_and_decode(ours: Tokenizer, theirs: Any, text: str) -> None:
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
    assert b"".join(map(ours.token_bytes, ids)).decode() == ours.decode(ids)


@settings(deadline=None)
@given(st.lists(st.integers(0, tiny.TOKENIZER_SIZE - 1), max_size=12), st.booleans())
def test_any_ids_decode_as_in_transformers(ours: Tokenizer, theirs: Any, ids: list[int], skip: bool) -> None:
    """Halves of characters included: they become the replacement character."""
    expected = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    assert ours.decode(ids, skip_special_tokens=skip) == expected


def test_facts(ours: Tokenizer) -> None:
    end, start, im_end = range(tiny.TOKENIZER_SIZE - 3, tiny.TOKENIZER_SIZE)
    assert ours.eos_ids == {im_end}
    assert ours.special_ids == {end, start, im_end}
    assert ours.vocab_size == tiny.TOKENIZER_SIZE
    assert ours.token_bytes(start) == b"<|im_start|>"
    assert {ours.token_bytes(i) for i in range(256)} == {bytes([byte]) for byte in range(256)}


def test_ids_above_the_vocabulary(ours: Tokenizer) -> None:
    assert ours.decode([0, 150_000]) == "!<|150000|>"


def test_vocabulary_and_merges_alone(folder: Path, tmp_path: Path, ours: Tokenizer) -> None:
    """As in checkpoints from before tokenizer.json."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    tokens = {str(i): {"content": text, "special": True} for i, text in enumerate(tiny.SPECIAL_TOKENS, 297)}
    config = {"added_tokens_decoder": tokens, "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_directory(tmp_path)
    for text in TEXTS:
        assert tokenizer.encode(text) == ours.encode(text)
    assert tokenizer.eos_ids == ours.eos_ids


def test_tokens_that_only_the_settings_list(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {
        "301": {"content": "<plain>", "special": False},
        "300": {"content": "<control>", "special": True},
        "299": {"content": "<|im_end|>", "special": True},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer.encode("<control><plain><|im_end|>") == [300, 301, 299]
    assert tokenizer.decode([300, 301], skip_special_tokens=True) == "<plain>"


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    backend = Backend(models.WordLevel({"a": 0}, "a"))
    backend.decoder = decoders.Metaspace()
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="not byte-level"):
        Tokenizer.from_directory(tmp_path)


def test_starting_up_imports_neither_transformers_nor_torch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import inference.model.loader; "
        "from inference.model.tokenizer import Tokenizer; "
        f"Tokenizer.from_directory(Path({str(folder)!r})).encode('the cat'); "
        "sys.exit(bool({'transformers', 'torch', 'huggingface_hub.hf_api'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
