"""Telling calculations apart: a third layer, which chooses among the calculator's thoughts.

Which of 430 recipes a question wants is as much to learn as which of 2500 answers, and has little in common with it:
"of", "per" and "left" decide. A namer that learned both chose the right recipe for half of the questions that it had
learned with. So this layer says what is to be calculated: its scores are added to the namer's.

It reads all that is there: words and kinds, what the namer's second layer wrote, and the writer's embedding. All that
is learned before and stays as it is. What it has of its own about words stands where the namer does not see it: the
values of the namer's attention are 128 numbers of 224, so 96 directions mean nothing to it. And what it writes stands
in the `RECKONED` places, which nothing above reads but the rows of the calculator's thoughts.
"""

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, silu

from batches import Batch
from learner import Learner, Losses
from model import HEAD_SIZE
from naming import CHOICE, FEED_FORWARD, HIDDEN, KINDS, MARKS, WORDS, Attention, Namer
from recipe_parts import shares_of_parts
from recipes import CALCULATOR
from rotation import rotations
from thoughts import subject_of
from tokenizer import first_thought, thought_tokens
from writing import WRITER_SHAPE, Writer

READ = HIDDEN + WRITER_SHAPE.hidden
RECKONED = slice(CHOICE.stop, HIDDEN)
ATTENTION_SHARE, MLP_SHARE = 1 / 4, 1 / 32
"""What the outputs are multiplied by."""
OWN_VOLUME = 20.0
"""What its own embedding is multiplied by: it has to be louder than what the namer's second layer wrote there."""
WORDS_VOLUME, KINDS_VOLUME, WRITERS_VOLUME = 2.0, 2.0, 12.0
"""What the words, the kinds and the writer's embedding are multiplied by before they are read."""
RECKONED_VOLUME = 8.0
QUIET, FAVOURED = 60.0, 100.0
"""How long what it writes, and how high the score that stands out, may be where nothing is named: all of the stream
passes through one norm, and what text is to be told from is to be no louder than text."""
LISTENED, LOUD_SHARE = 192, 0.2
"""At how many places of a batch that is looked at, and what it counts."""


class Reckoner(Learner):
    """Computes what is added to the scores of the calculator's thoughts."""

    threads = 1

    def __init__(self, tokenizer: Tokenizer, namer: Namer, writer: Writer) -> None:
        """Stands on a namer and a writer that have learned what they are to know."""
        super().__init__()
        self._below = (namer.eval().requires_grad_(False),)
        self.register_buffer("read", writer.embedding().detach(), persistent=False)
        self.first = first_thought(tokenizer)
        names = thought_tokens(tokenizer)
        recipes = [n for n, name in enumerate(names) if subject_of(name) == CALCULATOR]
        self.register_buffer("recipes", torch.tensor(recipes), persistent=False)
        """The numbers of the calculator's thoughts among all."""
        written = RECKONED.stop - RECKONED.start
        self.attention = Attention(READ, written)
        self.gate = torch.nn.Linear(READ, FEED_FORWARD, bias=False)
        self.up = torch.nn.Linear(READ, FEED_FORWARD, bias=False)
        self.down = torch.nn.Linear(FEED_FORWARD, written, bias=False)
        for project in (self.gate, self.up, self.attention.value):
            torch.nn.init.normal_(project.weight, std=READ**-0.5)
        torch.nn.init.normal_(self.down.weight, std=FEED_FORWARD**-0.5)
        volume = torch.full((READ,), WORDS_VOLUME)
        volume[KINDS], volume[HIDDEN:] = KINDS_VOLUME, WRITERS_VOLUME
        self.register_buffer("volume", volume, persistent=False)
        self.attention_gain = torch.nn.Parameter(torch.ones(READ))
        self.mlp_gain = torch.nn.Parameter(torch.ones(READ))
        self.choice_gain = torch.nn.Parameter(torch.ones(written))
        self.rows = torch.nn.Parameter(torch.zeros(len(recipes), written))
        self.register_buffer("shares", shares_of_parts([names[n] for n in recipes]), persistent=False)
        self.common = torch.nn.Parameter(torch.zeros(self.shares.shape[1], written))
        self.register_buffer("unseen", namer.unseen(), persistent=False)
        self.words = torch.nn.Parameter(torch.zeros(tokenizer.get_vocab_size(), len(self.unseen)))
        marks = namer.kinds[:, : len(MARKS)].any(1, keepdim=True)
        self.register_buffer("changing", (~marks).float(), persistent=False)

    @property
    def namer(self) -> Namer:
        """What it stands on, which it does not train."""
        return self._below[0]

    def added(self, inputs: Tensor, places: Tensor, stream: Tensor) -> Tensor:
        """[places, recipes] on what the namer made of the inputs."""
        before, written = self.written(inputs, places, stream)
        return linear((before[:, RECKONED] + written) * (self.choice_gain * RECKONED_VOLUME), self.head())

    def head(self) -> Tensor:
        """[recipes, written]: their own rows and what they have in common."""
        return self.rows + self.shares @ self.common

    def written(self, inputs: Tensor, places: Tensor, stream: Tensor) -> tuple[Tensor, Tensor]:
        """What is read [places, hidden], and what this layer adds to the `RECKONED` of it."""
        turns = rotations(inputs.shape[1], HEAD_SIZE, inputs.device)
        hidden = torch.cat([stream, self.read[inputs]], -1)
        normed = hidden * (self.attention_gain * self.volume)
        first = ATTENTION_SHARE * self.attention.at(places, normed[..., KINDS], normed, turns)
        before = hidden.flatten(0, 1)[places]
        normed = (before + _padded(first)) * (self.mlp_gain * self.volume)
        return before, first + MLP_SHARE * self.down(silu(self.gate(normed)) * self.up(normed))

    def logits(self, inputs: Tensor, places: Tensor) -> Tensor:
        """Scores [places, thoughts] of namer and reckoner together."""
        with torch.no_grad():
            stream = self.namer.with_mlp(self.namer.attended(inputs, self.more()))
        return self._scores(inputs, places, stream, self.namer.scores(stream.flatten(0, 1)[places]))

    def more(self) -> Tensor:
        """[tokens, words]: what is added to the embedding."""
        return (OWN_VOLUME * self.words * self.changing) @ self.unseen

    def parts(self, inputs: Tensor, places: Tensor, thoughts: Tensor) -> Tensor:
        """[3]: cross entropy of the thoughts that follow the places; and, anywhere, how far what is written, and the
        score of the thought that stands out, are above what is harmless."""
        with self.multiplying(inputs.device):
            more = self.more()
            with torch.no_grad():
                attended = self.namer.attended(inputs, more)
                stream = self.namer.with_mlp(attended)
                scores = self.namer.scores(stream.flatten(0, 1)[places])
            # What the layers below make of its own embedding where a thought is named is not learned from.
            own = more - more.detach()
            stream[..., WORDS] += own[inputs]
            logits = self._scores(inputs, places, stream, scores)

            anywhere = torch.randint(inputs.numel(), (LISTENED,), device=inputs.device)
            _, written = self.written(inputs, anywhere, stream)
            heard = attended.flatten(0, 1)[anywhere]
            heard[:, WORDS] += own[inputs.flatten()[anywhere]]
            favoured = self._scores(inputs, anywhere, stream, self.namer.scores(self.namer.with_mlp(heard))).amax(1)
        naming = cross_entropy(logits.float(), thoughts - self.first)
        return torch.stack([naming, _above(written.float().norm(dim=1), QUIET), _above(favoured.float(), FAVOURED)])

    def _scores(self, inputs: Tensor, places: Tensor, stream: Tensor, of_namer: Tensor) -> Tensor:
        return of_namer.index_add(1, self.recipes, self.added(inputs, places, stream))

    def losses(self, batch: Batch) -> Losses:
        """Of the thoughts that begin the answers, and a little of loudness."""
        naming, loud, favoured = self.parts(batch.inputs, batch.starts, batch.thoughts)
        total = naming + LOUD_SHARE * (loud + favoured)
        return Losses(total, {"naming": naming.item(), "loud": loud.item(), "favoured": favoured.item()})


def _padded(written: Tensor) -> Tensor:
    """What is written to the `RECKONED` places, as wide as what is read."""
    return torch.nn.functional.pad(written, (RECKONED.start, READ - RECKONED.stop))


def _above(size: Tensor, harmless: float) -> Tensor:
    """The mean of how far it is above that, as the logarithm of the square: 0 if nowhere."""
    return 2 * (size / harmless).clamp(min=1).log().mean()
