"""Breaking a text that grows at its end into rows: a full row never changes again."""

from __future__ import annotations

from collections.abc import Callable


def row_end(text: str, at: int, room: int, cells: Callable[[str], int]) -> tuple[int, bool]:
    """Where the row that begins at `at` ends, and whether more text would leave it as it is.

    It has `room` cells for characters of `cells(character)` each; a line break or a space that ends it needs none.
    """
    space = -1
    for place in range(at, len(text)):
        character = text[place]
        if character == "\n":
            return place + 1, True
        room -= cells(character)
        if room < 0 and character == " ":
            return place + 1, True
        if room < 0:
            return (space + 1 if space >= at else max(place, at + 1)), True
        if character == " ":
            space = place
    return len(text), False
