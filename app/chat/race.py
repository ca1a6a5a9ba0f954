"""Two branches of one chat side by side, asked the same at the same moment, and the blocks that both stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from app.chat.approval import ApprovalCard
from app.chat.composer import Composer
from app.chat.message import Face
from app.chat.settings import Settings, SettingsScreen
from app.chat.transcript import Transcript
from app.inspector.blocks import BlockMap
from app.sessions.session import Session, Turn
from app.sessions.workspace import Workspace

REFRESH = 1 / 10


class RaceScreen(Screen[None]):
    """The session on the left and its fork on the right; both stay tabs when this screen is left."""

    AUTO_FOCUS = "Composer"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("ctrl+r", "again", "Again in both"),
        Binding("ctrl+s", "settings", "Settings of the right branch"),
    ]

    def __init__(
        self,
        workspace: Workspace,
        session: Session,
        fork: Session,
        face: Callable[[Turn, tuple[int, int]], Face],
        open_turn: Callable[[Turn], None],
        blocks: BlockMap,
    ) -> None:
        """`face` and `open_turn`: what stands around a turn, and what shows all of its thought and calls."""
        super().__init__()
        self._workspace, self._branches, self._face, self._blocks = workspace, (session, fork), face, blocks
        self._open_turn = open_turn
        self._most = (0, 0, 0)
        """Blocks both held at the most in this round, and all of either then."""
        self._behind = False
        """A branch was being answered when it was last looked at."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="branches"):
            for branch in self._branches:
                with Vertical(classes="branch") as box:
                    box.border_title = branch.name
                    yield Transcript(self._face)
                    yield ApprovalCard()
        yield Static(id="shared")
        composer = Composer(self._branches[0].sent)
        composer.border_title = "to both branches"
        composer.border_subtitle = "Enter ask both · Ctrl+R again · Ctrl+S settings, right · Esc back"
        yield composer

    def on_mount(self) -> None:
        for transcript, branch in zip(self.query(Transcript), self._branches, strict=True):
            transcript.show(branch)
        self.refresh_race()
        self.set_interval(REFRESH, self._follow)

    def _follow(self) -> None:
        """Show what the branches get, and once more what they got; else nothing changes here."""
        under_way = any(map(self._workspace.under_way, self._branches))
        if under_way or self._behind:
            self.refresh_race()
        self._behind = under_way

    def refresh_race(self) -> None:
        for transcript, card, branch in zip(
            self.query(Transcript), self.query(ApprovalCard), self._branches, strict=True
        ):
            transcript.sync()
            exchange = self._workspace.exchanges.of(branch)
            card.show(exchange.asking if exchange is not None else None, max(8, self.size.height // 2))
        self.query_one("#shared", Static).update(self._shared())

    def _shared(self) -> Content:
        left, right = self._branches
        now = self._blocks.together(left.name, right.name)
        if now[0] >= self._most[0] and now[0]:
            self._most = now
        both, one, other = self._most
        settings = f"temperature {left.params.temperature:g} and {right.params.temperature:g}"
        if not both:
            return Content(f"{settings} · blocks of the KV cache that both stand on will be counted here")
        size = self._blocks.block_size
        return Content.assemble(
            f"{settings} · ",
            (f"{both} block{'s' * (both > 1)} shared", "bold $text-success"),
            f" of {one} and {other}: {both * size} tokens are kept once and were computed for one of them at most",
        )

    def on_approval_card_answered(self, event: ApprovalCard.Answered) -> None:
        self._workspace.exchanges.decide(event.asking, event.decision)
        self.query_one(Composer).focus()

    def on_transcript_asked(self, event: Transcript.Asked) -> None:
        if event.action == "open":
            self._open_turn(event.turn)
            self.refresh_race()
            for transcript in self.query(Transcript):
                transcript.reveal(event.turn)

    @on(Composer.Sent)
    def _ask_both(self, event: Composer.Sent) -> None:
        if self._busy():
            return
        self._most = (0, 0, 0)
        self.query_one(Composer).put("")
        for branch in self._branches:
            self._workspace.send(branch, event.text)
        self.refresh_race()

    def _busy(self) -> bool:
        busy = any(map(self._workspace.busy, self._branches))
        if busy:
            self.notify("Both are asked when both have ended: wait, or stop them with Esc.")
        return busy

    def action_again(self) -> None:
        """The last question again, in both."""
        if self._busy():
            return
        self._most = (0, 0, 0)
        for branch in self._branches:
            if (answer := branch.last("assistant")) is not None:
                self._workspace.regenerate(branch, answer)
        self.refresh_race()

    def action_settings(self) -> None:
        """Other sampling or another system prompt for the branch on the right."""
        fork = self._branches[1]

        def keep(found: Settings | None) -> None:
            if found is not None:
                self._workspace.set_params(fork, found.params, found.system_prompt, found.priority)
                self._workspace.set_tools(fork, found.tools, found.directory)
                self.refresh_race()

        self.app.push_screen(SettingsScreen(fork, self._workspace.kit.default_directory), keep)

    def action_leave(self) -> None:
        """Stop what is being answered; if nothing is, go back to the chat."""
        stopped = [self._workspace.stop(branch) for branch in self._branches]
        if not any(stopped):
            self.dismiss(None)
