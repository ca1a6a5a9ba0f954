"""Drafts from the text itself: what followed the last time that the same words came.

Free, and good where an answer repeats its prompt: code that is edited, a text that is quoted (Saxena 2023, "Prompt
lookup decoding").
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2
"""Lengths of the endings that are looked for, the longest first. One token alone says too little of what follows."""


class NGrams:
    """Where each run of a few tokens came last, in one request's text. Grows with it."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """By run: the place of the token after its latest occurrence but the one at the very end."""

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, token_ids: Sequence[int]) -> None:
        """The text goes on with these."""
        for token in token_ids:
            # Only now does something follow the runs that ended the text.
            end = len(self._tokens)
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._after[tuple(self._tokens[end - length :])] = end
            self._tokens.append(token)

    def propose(self, most: int) -> list[int]:
        """At most so many tokens that may come next; none if the text's end is new to it.

        Where what followed reaches the end of the text, it repeats itself, and so does the draft.
        """
        end = len(self._tokens)
        for length in range(min(LONGEST, end), SHORTEST - 1, -1):
            start = self._after.get(tuple(self._tokens[end - length :]))
            if start is not None:
                period = end - start
                return [self._tokens[start + i % period] for i in range(most)]
        return []
