"""Numbers for the answers: which of all known answers a turn of the assistant is.

While it trains, the model has a second task: to say, at the last token of the prompt, which answer comes. An answer in
words says so only in its first tokens and then costs many more that are soon known by heart; the number says it at
once. The head for it is thrown away after training.
"""

from chat_format import DEMO_TOOLS, Message
from corpus import Corpus


class AnswerKinds:
    """Every definition, reason, follow-up answer and tool call has a number; all else is one kind."""

    def __init__(self, corpus: Corpus) -> None:
        self._numbers: dict[str, int] = {}
        self._tools = {name: number for number, name in enumerate(DEMO_TOOLS)}
        self._other = len(self._tools)
        self.count = self._other + 1
        for intent in corpus.intents.values():
            self._add(intent.answers)
            for reason in intent.reasons:
                self._add([reason])
            for follow_up in intent.follow_ups:
                self._add([follow_up.answer])

    def _add(self, variants: list[str]) -> None:
        """Variants of one answer have the same number."""
        for text in variants:
            self._numbers.setdefault(text, self.count)
        self.count += 1

    def kind_of(self, message: Message) -> int:
        """The number of an assistant's message."""
        calls = message.get("tool_calls")
        if calls:
            return self._tools.get(calls[0]["name"], self._other)
        return self._numbers.get(message["content"], self._other)
