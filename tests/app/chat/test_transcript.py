"""The transcript: follows the answer, keeps the reader's place, selects and copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.geometry import Offset
from textual.selection import Selection

from app.sessions.session import Session, Turn

Launch = Callable[..., Any]
LONG = "".join(f"Paragraph {n} of a long answer that goes on.\n\n" for n in range(60))


def fill(session: Session, pairs: int) -> None:
    """A session with some past."""
    for number in range(pairs):
        question = session.add(Turn("user", f"question {number}", parent=session.head))
        session.add(Turn("assistant", f"answer {number}\n\n" + LONG[:400], parent=question.id, reason="stop"))


async def test_the_view_follows_the_answer_until_the_reader_scrolls_up(launch: Launch) -> None:
    async with launch(size=(80, 24), script=lambda _: LONG) as rig:
        await rig.send("go")
        await rig.run(200)
        transcript = rig.transcript
        assert transcript.follow
        assert transcript.scroll_y == transcript.max_scroll_y > 0
        await rig.press("tab", "pageup")
        place, first = transcript.scroll_y, transcript.render_line(0).text
        assert not transcript.follow
        assert "more below" in rig.screen_text()
        await rig.run(100)
        assert (transcript.scroll_y, transcript.render_line(0).text) == (place, first)
        await rig.press("end")
        await rig.run(20)
        assert transcript.follow
        assert transcript.scroll_y == transcript.max_scroll_y
        assert "more below" not in rig.screen_text()


async def test_painting_only_what_changed_leaves_nothing_old_on_screen(launch: Launch) -> None:
    async with launch(size=(80, 24)) as rig:
        fill(rig.session, 1)
        await rig.send("go")
        for _ in range(90):
            await rig.run(1)
            shown = rig.screen_text()
            rig.transcript.refresh()
            await rig.pilot.pause()
            assert rig.screen_text() == shown


async def test_a_resize_keeps_the_first_line_in_view(launch: Launch) -> None:
    async with launch(size=(100, 30)) as rig:
        fill(rig.session, 40)
        rig.transcript.sync()
        await rig.settle()
        await rig.press("tab", "pageup", "pageup", "pageup")
        view = rig.transcript._views[rig.transcript._index_at(round(rig.transcript.scroll_y))]
        await rig.pilot.resize_terminal(70, 24)
        await rig.settle()
        for _ in range(40):
            await rig.pilot.pause(0.02)
        again = rig.transcript._views[rig.transcript._index_at(round(rig.transcript.scroll_y))]
        assert again is view
        assert all(v.fresh for v in rig.transcript._views), "turns out of view are drawn when there is time"


async def test_a_long_session_is_drawn_only_where_it_is_seen(launch: Launch) -> None:
    async with launch(size=(100, 30)) as rig:
        fill(rig.session, 200)
        rig.transcript._later.pause()
        rig.transcript.sync()
        assert sum(view.fresh for view in rig.transcript._views) < 20


async def test_each_session_keeps_its_own_place(launch: Launch) -> None:
    async with launch(size=(80, 24)) as rig:
        fill(rig.session, 10)
        rig.transcript.sync()
        await rig.press("tab", "home")
        assert "question 0" in rig.screen_text()
        await rig.press("ctrl+n")
        assert rig.transcript.follow
        await rig.press("ctrl+pageup")
        assert "question 0" in rig.screen_text()
        assert not rig.transcript.follow


async def test_messages_are_selected_and_copied_by_keyboard(launch: Launch) -> None:
    async with launch() as rig:
        fill(rig.session, 3)
        rig.transcript.sync()
        await rig.press("tab", "up")
        assert "c copy · r regenerate" in rig.screen_text()
        await rig.press("up")
        assert "c copy · e edit and resend" in rig.screen_text()
        await rig.press("c")
        assert rig.app.clipboard == "question 2"
        await rig.press("escape")
        assert rig.composer.has_focus
        assert rig.transcript.selected is None


async def test_text_selected_with_the_mouse_is_copied_without_the_gutter(launch: Launch) -> None:
    async with launch() as rig:
        fill(rig.session, 1)
        rig.transcript.sync()
        await rig.settle()
        selection = Selection(Offset(4, 1), Offset(8, 4))
        assert rig.transcript.get_selection(selection) == ("estion 0\n\ndemo\nanswer", "\n")


async def test_a_drag_of_the_mouse_selects_text(launch: Launch) -> None:
    async with launch() as rig:
        fill(rig.session, 1)
        rig.transcript.sync()
        await rig.settle()
        await rig.pilot.mouse_down(rig.transcript, offset=(2, 1))
        await rig.pilot.hover(rig.transcript, offset=(10, 1))
        await rig.pilot.mouse_up(rig.transcript, offset=(10, 1))
        await rig.pilot.pause()
        assert rig.app.screen.get_selected_text() == "question"
        await rig.press("ctrl+c")
        assert rig.app.clipboard == "question"


async def test_an_answer_shows_how_it_went(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("go")
        await rig.run(30)
        assert "writing · 30 tokens" in rig.screen_text()
        await rig.finish()
        assert "87 tokens · TTFT 0.06 s · 49.4 tok/s · stop" in rig.screen_text()


@pytest.mark.parametrize("theme", ["glass-light", "ansi-dark", "ansi-light", "textual-dark"])
async def test_every_theme_redraws_the_transcript(launch: Launch, theme: str) -> None:
    async with launch() as rig:
        fill(rig.session, 1)
        rig.transcript.sync()
        await rig.settle()
        before = [s.style for s in rig.transcript.render_line(0)]
        rig.app.theme = theme
        await rig.settle()
        assert [s.style for s in rig.transcript.render_line(0)] != before
