"""From markdown-it's tokens to lines of styled segments: how each kind of block looks.

Pure: the same tokens, width and styles give the same lines. A blank line stands between blocks; lists look the same
whether their source is tight or loose, so that an item's look never depends on items still to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from markdown_it.token import Token
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Error, Keyword, Literal, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from app.paint import Styles

Lines = list[list[Segment]]

BULLETS = "•◦▪"
READABLE = 100
"""Prose wider than this many cells is hard to read; wider panes keep it."""

# Rich wants a console to wrap text and to split it into segments; nothing is ever printed on this one.
_CONSOLE = Console(width=READABLE, force_terminal=True, color_system="truecolor", legacy_windows=False)

_CODE_ROLES: dict[_TokenType, str] = {
    Keyword: "code-keyword",
    Operator.Word: "code-keyword",
    String: "code-string",
    Literal: "code-string",
    Number: "code-number",
    Comment: "code-comment",
    Name.Function: "code-name",
    Name.Class: "code-name",
    Name.Decorator: "code-name",
    Name.Builtin: "code-name",
    Name.Tag: "code-keyword",
    Name.Attribute: "code-name",
    Error: "code-error",
}


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=256)
def _code_role(kind: _TokenType) -> str:
    at: _TokenType | None = kind
    while at is not None:
        if at in _CODE_ROLES:
            return _CODE_ROLES[at]
        at = at.parent
    return ""


def wrap(text: Text, width: int) -> Lines:
    """The text in lines of at most `width` cells."""
    if text.style:
        # Rich leaves a text's own style out where nothing else is styled.
        text.stylize_before(text.style)
    wrapped = text.wrap(_CONSOLE, max(1, width), overflow="fold", tab_size=4)
    return [[s for s in line.render(_CONSOLE) if s.text] for line in wrapped]


def pad(line: list[Segment], width: int, style: Style) -> list[Segment]:
    """The line filled up to `width` cells with `style`."""
    missing = width - sum(cell_len(s.text) for s in line)
    return [*line, Segment(" " * missing, style)] if missing > 0 else line


class BlockRenderer:
    """Draws token streams for one width with one set of styles."""

    def __init__(self, styles: Styles, width: int) -> None:
        self.styles = styles
        self.width = max(8, width)

    def render(self, tokens: Sequence[Token], *, first_number: int | None = None, bare_fence: bool = False) -> Lines:
        """Blocks with a blank line between them.

        For a text that is drawn in pieces: `first_number` is the number of the first item of a leading ordered list
        that goes on from an earlier piece, and `bare_fence` leaves out the head of a leading code block that does.
        """
        lines: Lines = []
        at = 0
        while at < len(tokens):
            end = closing(tokens, at)
            block = self._block(
                tokens[at : end + 1], min(self.width, READABLE), 0, first_number, bare_fence and at == 0
            )
            if lines and block:
                lines.append([])
            lines += block
            first_number, at = None, end + 1
        return lines

    # --- blocks -----------------------------------------------------------------------------------------------------

    def _block(
        self, tokens: Sequence[Token], width: int, depth: int, first_number: int | None = None, bare: bool = False
    ) -> Lines:
        """One block: its opening token, what is inside, its closing token."""
        token = tokens[0]
        match token.type:
            case "paragraph_open":
                return wrap(self._inline(tokens[1]), width)
            case "heading_open":
                return self._heading(tokens[1], int(token.tag[1]), width)
            case "bullet_list_open":
                return self._list(tokens, width, depth, None)
            case "ordered_list_open":
                return self._list(tokens, width, depth, list_start(token) if first_number is None else first_number)
            case "blockquote_open":
                return self._quote(tokens[1:-1], width, depth)
            case "fence" | "code_block":
                return self._code(token.content, token.info.split()[0] if token.info.strip() else "", bare)
            case "hr":
                return [[Segment("─" * width, self.styles("rule"))]]
            case "table_open":
                return self._table(tokens, width)
            case _:
                return wrap(Text(token.content), width)

    def _heading(self, inline: Token, level: int, width: int) -> Lines:
        text = Text(("#" * level + " ") if level > 2 else "")
        text.append_text(self._inline(inline))
        text.stylize_before(self.styles("heading"))
        lines = wrap(text, width)
        if level <= 2:
            length = max((sum(cell_len(s.text) for s in line) for line in lines), default=0)
            lines.append([Segment(("━" if level == 1 else "─") * length, self.styles("heading"))])
        return lines

    def _list(self, tokens: Sequence[Token], width: int, depth: int, number: int | None) -> Lines:
        lines: Lines = []
        at = 1
        while at < len(tokens) - 1:
            end = closing(tokens, at)
            marker = f"{BULLETS[min(depth, 2)]} " if number is None else f"{number}. "
            item = self._inside(tokens[at + 1 : end], width - len(marker), depth + 1)
            for index, line in enumerate(item or [[]]):
                lead = Segment(marker, self.styles("accent")) if index == 0 else Segment(" " * len(marker))
                lines.append([lead, *line])
            if number is not None:
                number += 1
            at = end + 1
        return lines

    def _inside(self, tokens: Sequence[Token], width: int, depth: int) -> Lines:
        """The blocks of a list item or a quotation."""
        lines: Lines = []
        at = 0
        while at < len(tokens):
            end = closing(tokens, at)
            if lines and not tokens[at].type.endswith("list_open"):
                lines.append([])
            inner = BlockRenderer(self.styles, width)
            lines += inner._block(tokens[at : end + 1], width, depth)
            at = end + 1
        return lines

    def _quote(self, tokens: Sequence[Token], width: int, depth: int) -> Lines:
        bar = Segment("▎ ", self.styles("dim"))
        return [[bar, *line] for line in self._inside(tokens, width - 2, depth)]

    def _code(self, source: str, language: str, bare: bool) -> Lines:
        base = self.styles("code")
        text = Text()
        source = source.removesuffix("\n")
        lexer = _lexer(language.lower()) if language else None
        if lexer is None:
            text.append(source)
        else:
            for kind, value in lexer.get_tokens(source):
                role = _code_role(kind)
                text.append(value, self.styles(role) if role else None)
        text.stylize_before(base)
        lines = [] if bare else [[Segment(f" {language or 'text'} ", base + self.styles("dim"))]]
        lines += [[Segment(" ", base), *line] for line in wrap(text, self.width - 2)]
        return [pad(line, self.width, base) for line in lines]

    def _table(self, tokens: Sequence[Token], width: int) -> Lines:
        rows: list[list[Text]] = []
        aligns: list[str] = []
        header_rows = 0
        for index, token in enumerate(tokens):
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                rows[-1].append(self._inline(tokens[index + 1]))
                if token.type == "th_open":
                    aligns.append(str(token.attrGet("style") or "").removeprefix("text-align:"))
            elif token.type == "thead_close":
                header_rows = len(rows)
        widths = _column_widths(rows, len(aligns), width - 3 * (len(aligns) - 1))
        lines: Lines = []
        for index, row in enumerate(rows):
            if index == header_rows:
                lines.append([Segment("─┼─".join("─" * w for w in widths), self.styles("rule"))])
            cells = [wrap(cell, w) for cell, w in zip(row, widths, strict=False)]
            for y in range(max((len(cell) for cell in cells), default=0)):
                line: list[Segment] = []
                for x, cell in enumerate(cells):
                    if x:
                        line.append(Segment(" │ ", self.styles("rule")))
                    piece = cell[y] if y < len(cell) else []
                    line += _align(piece, widths[x], aligns[x])
                if index < header_rows:
                    line = [Segment(s.text, (s.style or Style.null()) + self.styles("bold")) for s in line]
                lines.append(line)
        return lines

    # --- inline -----------------------------------------------------------------------------------------------------

    def _inline(self, token: Token) -> Text:
        text = Text()
        style = Style.null()
        outer: list[Style] = []
        target: list[tuple[str, int]] = []
        for child in token.children or []:
            match child.type:
                case "text":
                    text.append(child.content, style)
                case "softbreak" | "hardbreak":
                    text.append("\n")
                case "code_inline":
                    text.append(child.content, style + self.styles("inline-code"))
                case "strong_open" | "em_open" | "s_open":
                    outer.append(style)
                    role = {"strong_open": "bold", "em_open": "italic", "s_open": "strike"}[child.type]
                    style += self.styles(role)
                case "link_open":
                    outer.append(style)
                    address = str(child.attrGet("href") or "")
                    target.append((address, len(text)))
                    style += self.styles("link") + Style(link=address)
                case "strong_close" | "em_close" | "s_close":
                    style = outer.pop()
                case "link_close":
                    style = outer.pop()
                    address, start = target.pop()
                    # The address is said as well: not every terminal shows where a link goes.
                    if text.plain[start:] not in (address, address.removeprefix("mailto:")):
                        text.append(f" ({address})", self.styles("dim"))
                case "image":
                    text.append(f"[image: {child.content}] ({child.attrGet('src')})", self.styles("dim"))
                case _:
                    text.append(child.content, style)
        return text


def closing(tokens: Sequence[Token], at: int) -> int:
    """The index of the token that closes the block opened at `at`."""
    depth = 0
    for index in range(at, len(tokens)):
        depth += tokens[index].nesting
        if depth == 0:
            return index
    return len(tokens) - 1


def list_start(token: Token) -> int:
    """The number of an ordered list's first item."""
    start = token.attrGet("start")
    return 1 if start is None else int(start)


def _column_widths(rows: Sequence[Sequence[Text]], columns: int, room: int) -> list[int]:
    """Natural widths if they fit; else the widest columns give way until they do."""
    widths = [
        max(
            (max((cell_len(part) for part in row[x].plain.split("\n")), default=1) for row in rows if x < len(row)),
            default=1,
        )
        for x in range(columns)
    ]
    widths = [max(1, w) for w in widths]
    while sum(widths) > room and max(widths) > 4:
        widest = max(range(columns), key=widths.__getitem__)
        second = max([4, *(w for i, w in enumerate(widths) if i != widest)])
        widths[widest] -= max(1, min(sum(widths) - room, widths[widest] - second))
    return widths


def _align(line: list[Segment], width: int, align: str) -> list[Segment]:
    missing = width - sum(cell_len(s.text) for s in line)
    left = {"right": missing, "center": missing // 2}.get(align, 0)
    return [Segment(" " * left), *line, Segment(" " * (missing - left))] if missing > 0 else line
