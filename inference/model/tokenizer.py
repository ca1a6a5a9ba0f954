"""Text to tokens and back, and messages to text.

The work is done by `tokenizers`, the library that the fast tokenizers of transformers wrap. It reads tokenizer.json in
30 ms, while `import transformers` alone takes 600; that is done only for a model without a tokenizer.json, which
transformers then builds from the older files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers
import tokenizers.decoders

from inference.errors import ModelError
from inference.model.chat_template import ChatTemplate, special_token, tokenizer_settings
from inference.protocol import Message


class Tokenizer:
    """A byte-level tokenizer (byte-pair encoding of UTF-8, Sennrich et al. 2016 and GPT-2) and its chat template."""

    def __init__(self, backend: tokenizers.Tokenizer, template: ChatTemplate, eos_ids: frozenset[int]) -> None:
        self.template = template
        self.eos_ids = eos_ids
        """The ids that the tokenizer's own settings call the end of a text; the model's may be more."""
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        """Ids of control tokens, which `decode` can leave out."""
        self.vocab_size = max(backend.get_vocab_size(with_added_tokens=True), max(added, default=-1) + 1)
        """One above the largest id; a model's embedding often has more rows."""
        self._added_bytes = {i: token.content.encode() for i, token in added.items()}
        self._pieces: dict[int, bytes] = {}

    @classmethod
    def from_directory(cls, directory: Path) -> Tokenizer:
        """Read a model directory's tokenizer. Raises ModelError if it has none, a broken or an unknown one."""
        settings = tokenizer_settings(directory)
        backend = _backend(directory)
        if not isinstance(backend.decoder, tokenizers.decoders.ByteLevel):
            raise ModelError(f"{directory}: the tokenizer is not byte-level, which Qwen2's is")
        _add_missing(backend, settings)
        eos = special_token(settings, "eos_token")
        eos_id = None if eos is None else backend.token_to_id(eos)
        return cls(
            backend,
            ChatTemplate.from_directory(directory, settings),
            frozenset() if eos_id is None else frozenset({eos_id}),
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of a text. Special tokens written in it become their ids; none is added at the ends."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Text of tokens. Bytes that are not UTF-8, such as a half of a character, become U+FFFD."""
        pieces = (self.token_bytes(i) for i in ids if not (skip_special_tokens and i in self.special_ids))
        return b"".join(pieces).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for, which may begin or end inside a character.

        An id that the vocabulary lacks, of which a padded or a random model may draw one, stands for "<|id|>".
        """
        piece = self._pieces.get(token_id)
        if piece is None:
            piece = self._pieces[token_id] = self._spell(token_id)
        return piece

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), add_generation_prompt: bool = True
    ) -> str:
        """Messages as the model's chat template writes them. Raises RequestError if it refuses them."""
        return self.template.render(messages, tools, add_generation_prompt)

    def _spell(self, token_id: int) -> bytes:
        if token_id in self._added_bytes:
            return self._added_bytes[token_id]
        token = self._backend.id_to_token(token_id)
        if token is None:
            return f"<|{token_id}|>".encode()
        return bytes(_byte_of_character()[character] for character in token)


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: bytes that print stand for themselves, the others for the characters from U+0100 on."""
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def _backend(directory: Path) -> tokenizers.Tokenizer:
    path = directory / "tokenizer.json"
    if not path.exists():
        return _converted(directory)
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception, whatever is wrong with the file
        raise ModelError(f"{path} is not a tokenizer that can be read ({error})") from None


def _converted(directory: Path) -> tokenizers.Tokenizer:
    """Build the tokenizer from vocab.json and merges.txt, as transformers does."""
    if not (directory / "vocab.json").exists() or not (directory / "merges.txt").exists():
        raise ModelError(f"{directory} has no tokenizer: expected tokenizer.json, or vocab.json and merges.txt")
    from transformers import Qwen2Tokenizer

    try:
        backend: tokenizers.Tokenizer = Qwen2Tokenizer.from_pretrained(directory).backend_tokenizer
    except Exception as error:  # any, since what a broken file raises is up to transformers
        raise ModelError(f"{directory}: vocab.json and merges.txt make no tokenizer ({error})") from None
    return backend


def _add_missing(backend: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Add tokens that only tokenizer_config.json lists, in the order of their ids."""
    listed = settings.get("added_tokens_decoder") or {}
    for _, entry in sorted(listed.items(), key=lambda item: int(item[0])):
        if backend.token_to_id(entry["content"]) is None:
            token = tokenizers.AddedToken(
                entry["content"], special=entry.get("special", False), normalized=entry.get("normalized", False)
            )
            (backend.add_special_tokens if entry.get("special") else backend.add_tokens)([token])
