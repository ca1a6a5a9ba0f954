"""The transcript: the turns of one session, drawn line by line.

Only what is on screen is ever drawn exactly; turns further up count with an estimate until there is time for them.
The view stays at the end of the text until the reader scrolls up, and then keeps its place whatever is added below or
redrawn above; End follows the text again.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from app.chat.markdown import render
from app.chat.message import Face, MessageView
from app.chat.tokens import TokenView
from app.keys import bindings
from app.paint import Painted
from app.sessions.session import Session, Turn

GUTTER = 2
"""Cells left of the text: a bar that tells questions, answers and the selected message apart."""
SLICE = 0.008
"""Seconds that drawing turns out of view may take at a time."""

WELCOME = """\
# glasschat

Ask something below and press **Enter**. The model runs on this machine; the panels show what its engine does.

- *What is the KV cache?*
- *Why does batching make decode faster?*
- *Which key shows the switches?*

Open several tabs with **Ctrl+N** and send a message in each: the **Batch** panel shows all of them in one step.
**F1** lists every key, **Ctrl+P** every command.
"""


@dataclass(slots=True)
class Place:
    """Where a reader is: at the end, or so many lines into a turn."""

    follow: bool = True
    turn: str = ""
    offset: int = 0


class Transcript(ScrollView, Painted, can_focus=True):
    DEFAULT_CSS = """
    Transcript { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; scrollbar-gutter: stable; }
    """
    # Textual looks for component classes along the first base only.
    COMPONENT_CLASSES = Painted.COMPONENT_CLASSES
    BINDINGS: ClassVar[list[BindingType]] = bindings("transcript")

    follow: var[bool] = var(True)
    """Whether the view stays at the end of the text."""

    class Asked(Message):
        """The reader asked for something to be done with the selected message."""

        def __init__(self, action: str, turn: Turn) -> None:
            super().__init__()
            self.action, self.turn = action, turn

    def __init__(self, face: Callable[[Turn, tuple[int, int]], Face], *, id: str | None = None) -> None:
        """`face` gives what stands around a turn that is the first of so many versions."""
        super().__init__(id=id)
        self._face = face
        self._session: Session | None = None
        self._views: list[MessageView] = []
        self._tops: list[int] = [0]
        self._kept: dict[str, dict[str, MessageView]] = {}
        """Views of each session shown so far, so that going back to a tab draws nothing twice."""
        self._places: dict[str, Place] = {}
        self._placing = False
        self._painted: tuple[object, ...] = ()
        """What is on screen, as far as it tells whether all of it must be painted again."""
        self._drawn_width = 0
        self._welcome: list[Strip] = []
        self.selected: str | None = None
        """The turn chosen with the keyboard."""
        self.by_token = False
        """Whether answers are shown token by token, with who wrote each."""
        self._later = self.set_interval(0.05, self._draw_hidden, pause=True)

    # --- what is shown ----------------------------------------------------------------------------------------------

    def show(self, session: Session) -> None:
        """Show another session, where its reader left it."""
        self._remember_place()
        self._session = session
        self.selected = None
        self.follow = self._places.setdefault(session.id, Place()).follow
        self.screen.clear_selection()
        self.sync()

    def forget(self, session: Session) -> None:
        """Drop what is kept for a session that was closed."""
        self._kept.pop(session.id, None)

    def sync(self) -> None:
        """Take in what changed in the session."""
        session = self._session
        if session is None:
            return
        kept = self._kept.setdefault(session.id, {})
        path = session.path()
        self._views = [kept.get(turn.id) or kept.setdefault(turn.id, self._view(turn)) for turn in path]
        places = session.version_places()
        for view in self._views:
            view.look_at(self._face(view.turn, places[view.turn.id]))
        if self.selected not in {turn.id for turn in path}:
            self.selected = None
        self._arrange()

    def restyle(self) -> None:
        """Draw everything anew: the theme changed."""
        for kept in self._kept.values():
            for view in kept.values():
                view.restyle()
        self._welcome, self._painted = [], ()
        self._arrange()

    def on_resize(self, event: Resize) -> None:
        self._arrange()

    def _text_width(self) -> int:
        return max(8, self.scrollable_content_region.width - GUTTER - 1)

    # --- placing ----------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Draw what is in view, and put the view where its reader is."""
        width = self._text_width()
        if width != self._drawn_width:
            self._drawn_width, self._welcome = width, []
            for kept in self._kept.values():
                for view in kept.values():
                    view.fresh = False
        if self._session is None or not self.size:
            return
        if not self._views and not self._welcome:
            self._welcome = render(WELCOME, self.style_of, width)
        changed: float = math.inf
        # Drawing a turn changes its height and so what is in view: repeat until nothing in view is left to draw.
        while True:
            top = self._measure(width)
            bottom = top + self.size.height
            stale = [
                view
                for view, start, end in zip(self._views, self._tops, self._tops[1:], strict=False)
                if not view.fresh and start < bottom and end > top
            ]
            if not stale:
                break
            for view in stale:
                first = view.draw(self.style_of, width)
                changed = min(changed, self._tops[self._views.index(view)] + first)
        self._put(top, changed)
        if any(not view.fresh for view in self._views):
            self._later.resume()

    def _measure(self, width: int) -> int:
        """Find where each turn begins; returns the line that belongs at the top of the view."""
        tops = [0]
        for view in self._views:
            tops.append(tops[-1] + (view.height if view.fresh else view.estimate(width)))
        self._tops = tops
        height = tops[-1] if self._views else len(self._welcome)
        if self.follow or self._session is None:
            return max(0, height - self.size.height)
        place = self._places.setdefault(self._session.id, Place())
        for view, start in zip(self._views, tops, strict=False):
            if view.turn.id == place.turn:
                return max(0, min(start + min(place.offset, max(0, view.height - 1)), height - self.size.height))
        return max(0, min(round(self.scroll_y), height - self.size.height))

    def _put(self, top: int, changed: float) -> None:
        """Put line `top` at the top of the view and repaint what looks different: lines from `changed` on, or all."""
        height = self._tops[-1] if self._views else len(self._welcome)
        self._placing = True
        self.virtual_size = Size(self.scrollable_content_region.width, height)
        self.scroll_to(y=top, animate=False, immediate=True, force=True)
        self._placing = False
        painted = (self._session and self._session.id, tuple(view.turn.id for view in self._views), top, self.size)
        if painted != self._painted:
            self._painted = painted
            self.refresh()
        elif changed < top + self.size.height:
            first = max(0, int(changed) - top)
            self.refresh(Region(0, first, self.size.width, self.size.height - first))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._placing or self._session is None:
            return
        self.follow = new_value >= self.max_scroll_y
        self._remember_place()
        if any(not view.fresh for view in self._in_view()):
            self.call_later(self._arrange)

    def _remember_place(self) -> None:
        if self._session is None or not self._views:
            return
        index = self._index_at(round(self.scroll_y))
        view = self._views[index]
        self._places[self._session.id] = Place(self.follow, view.turn.id, round(self.scroll_y) - self._tops[index])

    def _index_at(self, line: int) -> int:
        return max(0, min(bisect_right(self._tops, line) - 1, len(self._views) - 1))

    def _in_view(self) -> Sequence[MessageView]:
        if not self._views:
            return []
        top = round(self.scroll_y)
        return self._views[self._index_at(top) : self._index_at(top + self.size.height) + 1]

    def _draw_hidden(self) -> None:
        """Draw turns out of view, the nearest to the end first, a few milliseconds at a time."""
        deadline = time.perf_counter() + SLICE
        for view in reversed(self._views):
            if not view.fresh:
                view.draw(self.style_of, self._drawn_width)
                if time.perf_counter() > deadline:
                    break
        if all(view.fresh for view in self._views):
            self._later.pause()
        self._arrange()

    # --- drawing ----------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        width = self.size.width
        base = self.rich_style
        found = self._line(line)
        if found is None:
            return Strip.blank(width, base)
        strip = found.apply_style(base)
        if (selection := self.text_selection) is not None and (span := selection.get_span(line)) is not None:
            strip = _mark(strip, span, self.screen.get_component_rich_style("screen--selection"))
        return strip.crop_extend(0, width, base).apply_offsets(0, line)

    def _line(self, line: int) -> Strip | None:
        """A line with its gutter."""
        if not self._views:
            return Strip([Segment("  "), *self._welcome[line]]) if line < len(self._welcome) else None
        if line >= self._tops[-1]:
            return None
        index = self._index_at(line)
        view = self._views[index]
        within = line - self._tops[index]
        if within >= view.height:
            return None
        strip = view.lines[within]
        if within == view.height - 1:
            # The blank line between two turns has no bar.
            return strip
        if view.turn.id == self.selected:
            gutter = Segment("┃ ", self.style_of("gutter-selected"))
        else:
            gutter = Segment("▎ ", self.style_of("gutter-you" if view.turn.is_question else "gutter-model"))
        if within == 0 and view.turn.id == self.selected:
            hint = "   c copy · e edit and resend" if view.turn.is_question else "   c copy · r regenerate"
            return Strip([gutter, *strip, Segment(hint, self.style_of("warn"))])
        return Strip([gutter, *strip])

    # --- selecting --------------------------------------------------------------------------------------------------

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text under the mouse selection, without the gutter."""
        start = selection.start.y if selection.start is not None else 0
        end = selection.end.y if selection.end is not None else (self._tops[-1] if self._views else 0)
        parts: list[str] = []
        for line in range(start, end + 1):
            strip, span = self._line(line), selection.get_span(line)
            if strip is None or span is None:
                continue
            text = strip.text
            left, right = span
            left = max(left, GUTTER)
            parts.append((text[left:] if right == -1 else text[left:right]).rstrip())
        return ("\n".join(parts), "\n") if parts else None

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def action_select(self, step: int) -> None:
        """Choose the message `step` after the chosen one; the last one if none is chosen."""
        ids = [view.turn.id for view in self._views]
        if not ids:
            return
        at = len(ids) - 1 if self.selected is None else ids.index(self.selected) + step
        index = max(0, min(at, len(ids) - 1))
        self.selected = ids[index]
        self._bring_into_view(index)
        self.refresh()

    def reveal(self, turn: Turn) -> None:
        """Bring a turn into view that has become longer or shorter; what is still being written is followed."""
        index = next((i for i, view in enumerate(self._views) if view.turn is turn), None)
        if index is not None and not turn.open:
            self._bring_into_view(index)

    def _bring_into_view(self, index: int) -> None:
        top, bottom = self._tops[index], self._tops[index + 1]
        if top < self.scroll_y or bottom > self.scroll_y + self.size.height:
            # A message taller than the view is shown from its head.
            y = top if bottom - top >= self.size.height or top < self.scroll_y else bottom - self.size.height
            # Forced: where the text has only now outgrown the view, there is no scrollbar yet.
            self.scroll_to(y=y, animate=False, immediate=True, force=True)

    def on_click(self, event: Click) -> None:
        """A click on a thought or on a tool call opens it, or closes it again; one that ends a selection doesn't."""
        line = event.y + self.scroll_offset.y
        if event.chain != 1 or self.text_selection is not None or not self._views or line >= self._tops[-1]:
            return
        index = self._index_at(line)
        if self._views[index].can_open(line - self._tops[index]):
            self.post_message(self.Asked("open", self._views[index].turn))

    def action_ask(self, action: str) -> None:
        view = next((v for v in self._views if v.turn.id == self.selected), None)
        if view is None and self._views:
            view = self._views[-1]
        if view is not None:
            self.post_message(self.Asked(action, view.turn))

    def action_tokens(self) -> None:
        """Show answers token by token, or their text again."""
        self.by_token = not self.by_token
        self._kept.clear()
        self._painted = ()
        self.sync()

    def _view(self, turn: Turn) -> MessageView:
        return TokenView(turn) if self.by_token and not turn.is_question else MessageView(turn)

    def action_page(self, direction: int) -> None:
        self.scroll_relative(y=direction * max(1, self.size.height - 2), animate=False)

    def action_top(self) -> None:
        self.scroll_to(y=0, animate=False, immediate=True)

    def action_bottom(self) -> None:
        """Go to the end and follow the text again."""
        self.follow = True
        self._arrange()
        self._remember_place()


def _mark(strip: Strip, span: tuple[int, int], style: Style) -> Strip:
    """The strip with the characters of `span` marked as selected."""
    start, end = span
    length = strip.cell_length
    left = strip.index_to_cell_position(min(start, len(strip.text)))
    right = length if end == -1 else strip.index_to_cell_position(min(end, len(strip.text)))
    left = max(left, GUTTER)
    if right <= left:
        return strip
    marked = Strip([Segment(s.text, (s.style or Style.null()) + style) for s in strip.crop(left, right)])
    return Strip.join([strip.crop(0, left), marked, strip.crop(right, length)])
