"""Colours by role. Widgets draw with names such as `accent` or `code-keyword`; the theme decides what they look like.

Each role is a Textual component class, so that a change of theme reaches every hand-drawn widget through the style
sheet, and light, dark and ANSI themes need no code of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

Styles = Callable[[str], Style]
"""From a role, or several with spaces between, to a style."""

Line = list[tuple[str, str]]
"""One line of a drawing: pieces of text with their roles."""

ROLES = {
    "text": "",
    "dim": "color: $text-muted;",
    "bold": "text-style: bold;",
    "italic": "text-style: italic;",
    "strike": "text-style: strike;",
    "primary": "color: $text-primary;",
    "accent": "color: $text-accent;",
    "good": "color: $text-success;",
    "warn": "color: $text-warning;",
    "bad": "color: $text-error;",
    "prefill": "color: $text-warning;",
    "decode": "color: $text-success;",
    "draft": "color: $text-accent;",
    "used": "color: $text-primary;",
    "empty": "color: $foreground 30%;",
    "rule": "color: $foreground 30%;",
    "link": "color: $text-primary; text-style: underline;",
    "heading": "color: $text-primary; text-style: bold;",
    "inline-code": "color: $text-accent; background: $foreground 8%;",
    "code": "background: $foreground 6%;",
    "code-keyword": "color: $text-primary; text-style: bold;",
    "code-string": "color: $text-success;",
    "code-number": "color: $text-warning;",
    "code-comment": "color: $text-muted; text-style: italic;",
    "code-name": "color: $text-accent;",
    "code-error": "color: $text-error;",
    "you": "color: $text-accent; text-style: bold;",
    "model": "color: $text-primary; text-style: bold;",
    "gutter-you": "color: $accent;",
    "gutter-model": "color: $foreground 20%;",
    "gutter-selected": "color: $warning; text-style: bold;",
    "hue-0": "color: $text-primary;",
    "hue-1": "color: $text-success;",
    "hue-2": "color: $text-warning;",
    "hue-3": "color: $text-accent;",
    "hue-4": "color: $text-secondary;",
    "hue-5": "color: $text-error;",
    "token-sampled": "",
    "token-drafted": "color: $text-success; text-style: underline;",
    "token-other": "background: $foreground 12%;",
    "cursor": "background: $primary 50%; text-style: bold reverse;",
    "tab": "color: $text-muted;",
    "tab-active": "background: $primary 30%; text-style: bold;",
    "tab-button": "color: $text-accent; text-style: bold;",
}

CSS = "\n".join(f".r--{role} {{ {rules} }}" for role, rules in ROLES.items())
"""To be part of the app's style sheet."""


class Painted(Widget):
    """A widget that draws its lines itself, with roles."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"r--{role}" for role in ROLES}

    def style_of(self, roles: str) -> Style:
        """The style of a role, or of several names with spaces between, the later ones on top."""
        cache: dict[str, Style] | None = self.__dict__.get("_roles")
        if cache is None:
            cache = self.__dict__["_roles"] = {}
        if (style := cache.get(roles)) is None:
            style = cache[roles] = sum((self._role(name) for name in roles.split()), start=Style.null())
        return style

    def _role(self, name: str) -> Style:
        full = self.get_component_rich_style(f"r--{name}")
        own = self.get_component_rich_style(f"r--{name}", partial=True)
        # The full style has see-through colours mixed with the background; the partial one says which are set at all.
        return own + Style(
            color=full.color if own.color is not None else None,
            bgcolor=full.bgcolor if own.bgcolor is not None else None,
        )

    def notify_style_update(self) -> None:
        self.__dict__.pop("_roles", None)
        super().notify_style_update()

    def strip_of(self, line: Line, width: int) -> Strip:
        """One drawn line as a strip of exactly `width` cells."""
        base = self.rich_style
        segments = [Segment(text, base + self.style_of(roles)) for text, roles in line]
        return Strip(segments).adjust_cell_length(width, base)


def fit(text: str, width: int) -> str:
    """The text in exactly `width` cells, cut with an ellipsis or padded."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length <= width:
        return text + " " * (width - length)
    kept = ""
    room = width - 1
    for character in text:
        room -= cell_len(character)
        if room < 0:
            break
        kept += character
    return kept + "…" + " " * (width - 1 - cell_len(kept))


def add_if_fits(line: Line, text: str, role: str, width: int) -> None:
    """Put a piece at the end of the line unless it would be cut."""
    if cell_len(line_text(line)) + cell_len(text) <= width:
        line.append((text, role))


def line_text(line: Line) -> str:
    return "".join(text for text, _ in line)


def text_of(lines: Sequence[Line]) -> str:
    """Drawn lines as plain text."""
    return "\n".join(line_text(line).rstrip() for line in lines)
