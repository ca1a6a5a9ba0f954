"""The tokenizer: byte-level BPE in the style of Qwen2, learned from sampled conversations."""

import json
import random
import re
import shutil
import string
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from chat_format import TEMPLATE_FILE, Conversation, pieces
from conversations import ConversationSampler
from thoughts import CLOSE, OPEN

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
# As in Qwen2.5 these are single tokens but not special ones: they stay in the decoded text.
TOOL_TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# The split of Qwen2: contractions, words with the blank before them, single digits, punctuation, line breaks.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The split for learning the merges keeps the blank before a word and all marks apart from its letters. So a word has
# the same pieces after a blank, a quotation mark and at the beginning of a line, and can be copied piece by piece.
LEARNING_SPLIT = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s"
# The most common words get a token with their blank all the same, or texts would become a third longer.
COMMON_WORDS = 384
BLANK = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
"""How byte-level BPE writes the blank."""

MAX_POSITIONS = 2048
# The share of user turns with BPE dropout.
SHAKEN_SHARE = 0.3
BPE_DROPOUT = 0.1


def train_tokenizer(sampler: ConversationSampler, vocabulary: int, seed: int, conversations: int) -> Tokenizer:
    """Learn the merges from sampled conversations; added tokens come last, as in Qwen2, and the thoughts after them."""
    rng = random.Random(seed)
    texts = [spoken_text(sampler.conversation(rng)) for _ in range(conversations)]
    added = len(SPECIAL_TOKENS) + len(TOOL_TAGS)
    tokenizer = with_common_words(learn_merges(texts, vocabulary - added - COMMON_WORDS), texts, COMMON_WORDS)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in TOOL_TAGS])
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(f"the corpus gives only {tokenizer.get_vocab_size()} tokens, not {vocabulary}")
    return _with_thoughts(tokenizer, sampler)


def continued_tokenizer(folder: Path, sampler: ConversationSampler) -> Tokenizer:
    """The tokens of text of an earlier tokenizer, and the thoughts of today."""
    earlier = load_tokenizer(folder)
    state = json.loads(earlier.to_str())
    first = first_thought(earlier)
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < first]
    return _with_thoughts(Tokenizer.from_str(json.dumps(state)), sampler)


def _with_thoughts(tokenizer: Tokenizer, sampler: ConversationSampler) -> Tokenizer:
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in sampler.thoughts.tokens])
    return tokenizer


def learn_merges(texts: list[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE whose tokens never join a blank or a mark to a letter."""
    tokenizer = _byte_level(models.BPE(), LEARNING_SPLIT)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def with_common_words(tokenizer: Tokenizer, texts: list[str], count: int) -> Tokenizer:
    """The same merges under Qwen2's split, and last of all those of the blank with the most common whole words."""
    state = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = state["vocab"]
    merges = [tuple(merge) for merge in state["merges"]]
    words = Counter(word for text in texts for word in re.findall(r"(?<= )[^\W\d_]+", text))
    whole = [word for word, _ in words.most_common() if word in vocabulary]
    for word in whole[:count]:
        merges.append((BLANK, word))
        vocabulary[BLANK + word] = len(vocabulary)
    return _byte_level(models.BPE(vocab=vocabulary, merges=merges), QWEN2_SPLIT)


def _byte_level(model: models.BPE, split: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def spoken_text(conversation: Conversation) -> str:
    """The text of a conversation without the tags, for learning the merges."""
    text = "\n".join(piece.text for piece in pieces(conversation) if piece.spoken_by != "format")
    for tag in (*SPECIAL_TOKENS, *TOOL_TAGS):
        text = text.replace(tag, "\n")
    return re.sub(f"{OPEN}.*?{CLOSE}", "\n", text)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(number): {
            "content": token.content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for number, token in tokenizer.get_added_tokens_decoder().items()
    }
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [TURN_START, TURN_END],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "errors": "replace",
        "model_max_length": MAX_POSITIONS,
        "pad_token": END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
    shutil.copyfile(TEMPLATE_FILE, folder / "chat_template.jinja")


def first_thought(tokenizer: Tokenizer) -> int:
    """The id of the first thought; thoughts are the last tokens of the vocabulary."""
    last_tag: int = tokenizer.token_to_id(TOOL_TAGS[-1])
    return last_tag + 1


def thought_tokens(tokenizer: Tokenizer) -> list[str]:
    """All thoughts, in order of their ids."""
    return [tokenizer.id_to_token(token) for token in range(first_thought(tokenizer), tokenizer.get_vocab_size())]


def digit_tokens(tokenizer: Tokenizer) -> list[int]:
    """The ids of the ten digits; every number is made of them."""
    return [tokenizer.token_to_id(digit) for digit in string.digits]


def blanked_words(tokenizer: Tokenizer) -> dict[int, int]:
    """Tokens of a blank and a word, with those of the word alone."""
    texts = {tokenizer.id_to_token(token): token for token in range(first_thought(tokenizer))}
    pairs = ((token, texts.get(text.removeprefix(BLANK))) for text, token in texts.items() if text.startswith(BLANK))
    return {token: word for token, word in pairs if word is not None}


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@dataclass(frozen=True)
class Veil:
    """The share of the questions that some tokens are hidden of, and the share of these tokens."""

    questions: float = 0.0
    tokens: float = 0.0


@dataclass
class Example:
    """A conversation as token ids; learned tokens belong to answers, and answers begin after the starts."""

    ids: list[int]
    learned: list[bool]
    starts: list[int]
    """For every answer the place of the last token before it; the one after it is the answer's thought."""
    misread: dict[int, int] = field(default_factory=dict)
    """Places where another token is read than is to be said."""

    @property
    def read(self) -> list[int]:
        """The tokens as the model sees them."""
        return [self.misread.get(place, token) for place, token in enumerate(self.ids)]

    def question(self) -> "Example":
        """All up to the thought of the last answer; nothing of it is learned as text."""
        length = self.starts[-1] + 2
        return replace(self.cut(length), learned=[False] * length)

    def with_given_thoughts(self) -> "Example":
        """The same, but thoughts are not to be learned: nothing before them tells which they are."""
        given = {place + 1 for place in self.starts}
        return replace(self, learned=[learned and place not in given for place, learned in enumerate(self.learned)])

    def disturbed(self, share: float, rng: random.Random) -> "Example":
        """The same with a share of the learned tokens misread as others of them, but for the last, which ends all."""
        *said, last = (place for place, learned in enumerate(self.learned) if learned)
        said = [place for place in said if self.ids[place] != self.ids[last]]
        return replace(self, misread={place: self.ids[rng.choice(said)] for place in said if rng.random() < share})

    def cut(self, length: int) -> "Example":
        """The first tokens alone."""
        starts = [place for place in self.starts if place + 1 < length]
        return replace(self, ids=self.ids[:length], learned=self.learned[:length], starts=starts)


class ConversationEncoder:
    """Turns conversations into token ids and marks what the model has to learn to write."""

    def __init__(self, tokenizer: Tokenizer, as_is: bool = False) -> None:
        """`as_is` leaves questions whole."""
        self.plain = tokenizer
        self.shaken = Tokenizer.from_str(tokenizer.to_str())
        self.shaken.model.dropout = BPE_DROPOUT
        self.as_is = as_is
        self.veil = Veil()
        self.hidden_token: int = tokenizer.token_to_id(END_OF_TEXT)
        self.digits = set(digit_tokens(tokenizer))
        self.cache: dict[str, list[int]] = {}

    def encode(self, conversation: Conversation, rng: random.Random, copied_as_is: bool = True) -> Example:
        """Ids, marks and the beginnings of the answers of a whole conversation.

        Where nothing of them is going to be written, questions that answers copy from may suffer, too.
        """
        example = Example([], [], [])
        for piece in pieces(conversation):
            if piece.learned:
                example.starts.append(len(example.ids) - 1)
            if piece.spoken_by == "user" and not (self.as_is or (copied_as_is and piece.copied)):
                piece_ids = self._question(piece.text, rng)
            elif piece.spoken_by == "format":
                piece_ids = self._cached(piece.text)
            else:
                piece_ids = self.plain.encode(piece.text).ids
            example.ids += piece_ids
            example.learned += [piece.learned] * len(piece_ids)
        return example

    def _question(self, text: str, rng: random.Random) -> list[int]:
        """A question as it is, or in other pieces, or in part, so that no single piece decides alone.

        BPE dropout (Provilkov et al. 2020) makes the model robust to typing mistakes, and hidden tokens make it look
        at all words: without them it learns the corpus' lines by heart.
        """
        ids = (self.shaken if rng.random() < SHAKEN_SHARE else self.plain).encode(text).ids
        if rng.random() < self.veil.questions:
            # The last one ends the turn.
            ids[:-1] = [self._hidden(token) if rng.random() < self.veil.tokens else token for token in ids[:-1]]
        return ids

    def _hidden(self, token: int) -> int:
        """Nothing is seen of a token; digits stay, for numbers are copied."""
        return token if token in self.digits else self.hidden_token

    def _cached(self, text: str) -> list[int]:
        if text not in self.cache:
            self.cache[text] = self.plain.encode(text).ids
        return self.cache[text]
