"""Conversations with the tools of a workspace, and with the engine's state. Paths, texts and results are random."""

import random
from collections.abc import Callable

import alternatives
from arithmetic import random_number
from chat_format import Message, assistant, tool_call, tool_result, until_last_call, user
from corpus import Corpus
from noise import QuestionNoise, pseudo_word
from tool_tasks import NOUNS, ToolTasks

NAMES = (
    "notes readme todo config settings main app server client test tests utils index data report draft plan ideas log "
    "build setup model train bench results letter recipe agenda budget changes license schema style table"
).split()
FOLDERS = "src docs notes lib tests app data config scripts work home old reports".split()
ENDINGS = "md txt py toml json yaml yml ini cfg cpp h rs go js ts html css csv sh log".split()
COMMANDS = (
    "ls -l|pytest|make test|make|git status|git log --oneline|python main.py|wc -l|ruff check .|npm test|cargo build|"
    "pwd|date|python --version|git diff|df -h|uname -a|make lint|go test|python -m pytest -q|cat"
).split("|")
KEYS = "port host name level size limit timeout color theme mode debug path version workers retries user title".split()
ERRORS = (
    "error: there is no file {path}",
    "error: {path} is a directory",
    "error: the text was not found in {path}",
    "error: the path leaves the workspace",
    "error: the user declined",
    "error: {path} is refused: it may hold secrets",
)

LONG_TEXTS = 0.15

TOOLS = ("read_file", "list_files", "search_files", "edit_file", "run_command", "engine_state")
SUBJECTS = (*TOOLS, *(f"{tool}: done" for tool in TOOLS), "tool: failed")
"""What answers are about that call these tools or tell what they did."""


class FileTasks:
    """Draws one question to a tool of the workspace, the call, and mostly the result and the answer to it."""

    def __init__(self, corpus: Corpus, noise: QuestionNoise, tools: ToolTasks) -> None:
        self.corpus = corpus
        self.noise = noise
        self.tools = tools
        self.kinds: dict[Callable[[random.Random], list[Message]], float] = {
            self._read: 0.3,
            self._list: 0.12,
            self._search: 0.15,
            self._edit: 0.25,
            self._run: 0.1,
            self._engine: 0.08,
        }

    def conversation(self, rng: random.Random, answered: float = 0.7) -> list[Message]:
        """Four messages, or those up to the call; `answered` is the share with a result."""
        make = rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        messages = make(rng)
        return messages if rng.random() < answered else until_last_call(messages)

    def _read(self, rng: random.Random) -> list[Message]:
        path = random_path(rng)
        question = self._ask("file_read", rng, path=path)
        return self._told(question, "read_file", {"path": path}, self._text(rng), "read_answer", path, rng)

    def _list(self, rng: random.Random) -> list[Message]:
        question = self.noise.apply(alternatives.sample(rng.choice(self.corpus.section("file_list")), rng), rng, 0.6)
        lines = [f"{random_path(rng)}  {rng.randint(1, 9999):,} bytes" for _ in range(rng.randint(1, 4))]
        return self._told(question, "list_files", {"path": "."}, "\n".join(lines), "list_answer", ".", rng)

    def _search(self, rng: random.Random) -> list[Message]:
        term = self.tools.search_term(rng)
        question = self._ask("file_search", rng, term=term)
        lines = [f"{random_path(rng)}:{rng.randint(1, 99)}: {self._line(rng)}" for _ in range(rng.randint(1, 3))]
        result = "\n".join(lines) if rng.random() < 0.8 else "nothing found"
        return self._told(question, "search_files", {"text": term}, result, "grep_answer", term, rng, "<x>")

    def _edit(self, rng: random.Random) -> list[Message]:
        path, old, new = random_path(rng), self._piece(rng), self._piece(rng)
        question = self._ask("file_edit", rng, path=path, old=old, new=new)
        result = f"{path} was changed:\n-{old}\n+{new}"
        messages = self._told(
            question, "edit_file", {"path": path, "old": old, "new": new}, result, "edit_answer", path, rng
        )
        messages[-1]["content"] = messages[-1]["content"].replace("<o>", old).replace("<n>", new)
        return messages

    def _run(self, rng: random.Random) -> list[Message]:
        command = rng.choice(COMMANDS)
        if rng.random() < 0.4:
            command += f" {random_path(rng)}"
        question = self._ask("file_run", rng, command=command)
        return self._told(
            question, "run_command", {"command": command}, self._text(rng), "run_answer", command, rng, "<c>"
        )

    def _engine(self, rng: random.Random) -> list[Message]:
        question = self.noise.apply(alternatives.sample(rng.choice(self.corpus.section("engine_now")), rng), rng, 0.5)
        used, free = rng.randint(0, 900), rng.randint(0, 900)
        result = (
            f"step {rng.randint(1, 9999)}: {rng.randint(1, 9)} requests in the batch, "
            f"{rng.randint(0, 300)} prefill tokens and {rng.randint(0, 9)} decode tokens\n"
            f"KV blocks: {used} used, {free} free, {used + free} in all"
        )
        return self._told(question, "engine_state", {}, result, "engine_answer", "", rng)

    def _told(
        self,
        question: str,
        tool: str,
        arguments: dict[str, str],
        result: str,
        section: str,
        filling: str,
        rng: random.Random,
        slot: str = "<p>",
    ) -> list[Message]:
        """Question, call, result and answer; now and then the call fails."""
        if rng.random() < 0.1:
            result = rng.choice(ERRORS).format(path=filling or "it")
            answer = rng.choice(self.corpus.section("failed_answer")).replace("<r>", result.removeprefix("error: "))
            last = assistant(answer, "tool: failed")
        else:
            last = assistant(rng.choice(self.corpus.section(section)).replace(slot, filling), f"{tool}: done")
        return [user(question), tool_call(tool, **arguments), tool_result(result), last]

    def _ask(self, section: str, rng: random.Random, **filling: str) -> str:
        """A question with what has to be copied from it."""
        text = self.noise.framed(self.corpus.section(section), rng)
        slots = {"path": "<p>", "term": "<x>", "old": "<o>", "new": "<n>", "command": "<c>"}
        for name, value in filling.items():
            text = text.replace(slots[name], value)
        return text

    def _piece(self, rng: random.Random) -> str:
        """A text to replace: a word, a number, a setting, a few words."""
        kind = rng.random()
        if kind < 0.25:
            return random_number(rng)
        if kind < 0.5:
            return rng.choice(NOUNS) if rng.random() < 0.6 else pseudo_word(rng)
        if kind < 0.75:
            value = random_number(rng) if rng.random() < 0.6 else rng.choice(NOUNS)
            return f"{rng.choice(KEYS)}{rng.choice([' = ', '=', ': '])}{value}"
        return self.tools.search_term(rng)

    def _line(self, rng: random.Random) -> str:
        if rng.random() < 0.5:
            return f"{rng.choice(KEYS)} = {random_number(rng) if rng.random() < 0.6 else rng.choice(NOUNS)}"
        return self.tools.fact(rng)

    def _text(self, rng: random.Random) -> str:
        lines = [self._line(rng) for _ in range(rng.choice([1, 1, 2, 3, 5]))]
        # Now and then one that fills much of the context, of lines that are much alike.
        return "\n".join(lines * (rng.randint(2, 12) if rng.random() < LONG_TEXTS else 1))


def random_path(rng: random.Random) -> str:
    """A file below the workspace: now and then in a directory, with a word that means nothing, or without an ending."""
    name = rng.choice(NAMES) if rng.random() < 0.6 else pseudo_word(rng)
    if rng.random() < 0.15:
        name += rng.choice(["_", "-"]) + (str(rng.randint(1, 99)) if rng.random() < 0.5 else rng.choice(NAMES))
    if rng.random() < 0.92:
        name += "." + rng.choice(ENDINGS if rng.random() < 0.6 else ENDINGS[:5])
    return f"{rng.choice(FOLDERS)}/{name}" if rng.random() < 0.25 else name
