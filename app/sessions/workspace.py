"""The open sessions and what happens to them: sending, answering, stopping, asking again, closing.

Knows the engine link and the store, and nothing of the screen: the screen calls `poll` several times a second, which
drains the engine's events into the sessions and says what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from app.link import EngineLink
from app.measure import Measurement, Progress
from app.sessions.session import CUT_OFF, ENDED_WHILE_WRITING, Session, Turn, TurnState, new_id
from app.sessions.store import Store
from app.tools.compacting import Compactor
from app.tools.exchanges import Exchanges
from app.tools.folds import Folds
from app.tools.kit import Kit
from app.tools.use import ToolUse
from app.watch import EngineWatch, Phase
from inference.errors import GlasschatError
from inference.protocol import (
    Configured,
    Delta,
    EngineDied,
    Event,
    Finished,
    FinishReason,
    MessageCounts,
    PrefixExplained,
    Ready,
    Recorded,
    SamplingParams,
    SetBreakpoints,
    Started,
    Stepping,
    StepRecord,
    Submit,
    TokenCount,
    Until,
    in_words,
)
from inference.tools.calls import call_id
from inference.tools.markup import MADE_UP, AnswerParser, MadeUp

MAX_ATTEMPTS = 3
"""How often one question is asked of an engine that dies of it."""
FIRST_WORDS = 24
"""A new session takes its name from this many characters of its first question."""


@dataclass(slots=True)
class Answer:
    """A request under way."""

    session: Session
    turn: Turn
    command: Submit
    asked: float
    attempts: int = 1
    sent: bool = False
    stopped: bool = False
    first_token: float | None = None
    instead_of: Turn | None = None
    """An interrupted answer that stays on screen until this one has something to show."""
    parser: AnswerParser = field(default_factory=AnswerParser)
    made_up: bool = False
    """The model began to write a tool's result itself, and was stopped there."""


@dataclass(slots=True)
class Changes:
    """What one poll brought, for the screen to show."""

    sessions: set[str] = field(default_factory=set)
    records: list[StepRecord] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    counts: list[TokenCount] = field(default_factory=list)
    configured: list[Configured] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """What the engine said of itself: options and pauses."""
    engine: bool = False
    """The engine's phase changed."""


class Workspace:
    def __init__(
        self,
        link: EngineLink,
        watch: EngineWatch,
        store: Store,
        clock: Callable[[], float],
        tools: ToolUse | None = None,
    ) -> None:
        """`tools` are those of a session that is like no other; none without."""
        self.link, self.watch, self.store, self.clock = link, watch, store, clock
        self._tools_at_first = tools or ToolUse()
        self.sessions: list[Session] = []
        self.active: Session
        self.unseen: set[str] = set()
        """Sessions that finished an answer while another one was on screen."""
        self._closed: list[Session] = []
        self._automatic: Session | None = None
        """The tab that nobody asked for and that stands there because there must be one."""
        self._answers: dict[str, Answer] = {}
        self.breakpoints: tuple[Until, ...] = ()
        """What the engine is to pause at, also after a restart."""
        self.measurement: Measurement | None = None
        self.measured: dict[str, str] = {}
        """What measurements have found, by option."""
        self.last_step: StepRecord | None = None
        self.kit = Kit(store, lambda: self.last_step, lambda: watch.max_model_len)
        self.exchanges = Exchanges(self.kit, store, self.save, self._calls_done)
        self._sayings: list[str] = []
        """For the user, at the next poll."""
        self.compactor = Compactor(link, watch, self.save, self._sayings.append)

    def open(self, names: Iterable[str] = ()) -> None:
        """Reopen the tabs of last time, and add those asked for by name that are not among them; at least one tab."""
        self.sessions = self.store.restore()
        wanted = list(names)
        for name in wanted:
            if not any(s.name == name for s in self.sessions):
                self._add(self._first_session(name))
        if not self.sessions:
            self._automatic = self._add(self._first_session("chat 1"))
        last = self.store.setting("active")
        by_name = next((s for s in self.sessions if wanted and s.name == wanted[0]), None)
        self.active = by_name or next((s for s in self.sessions if s.id == last), self.sessions[0])
        for session in self.sessions:
            self._go_on(session)

    def _first_session(self, name: str) -> Session:
        return Session(name, tools=self._tools_at_first.like())

    def _go_on(self, session: Session) -> None:
        """Take up what the app's end broke off: an answer that was being written, or calls that were being made."""
        head = turn = session.turns.get(session.head or "")
        if head is not None and head.state is TurnState.INTERRUPTED and head.reason != CUT_OFF:
            # The engine had died, and the answer that was asked for again had not begun.
            turn = next((v for v in session.versions(head) if v.reason == CUT_OFF and not v.text), head)
        if head is None or turn is None or turn.reason != CUT_OFF or turn.parent not in session.turns:
            self.exchanges.resume(session)
            return
        turn.reason = ""
        # Counted, in case the app dies of it.
        attempts = 1 + sum(version.state is TurnState.INTERRUPTED for version in session.versions(turn))
        if attempts <= MAX_ATTEMPTS:
            self._ask_again(session, turn, attempts, "glasschat closed", None if turn is head else head)
        else:
            self.save(session, turn)

    # --- tabs -------------------------------------------------------------------------------------------------------

    def _add(self, session: Session, place: int | None = None) -> Session:
        self.sessions.insert(len(self.sessions) if place is None else place, session)
        self.save(session)
        return session

    def save(self, session: Session, *turns: Turn) -> None:
        for turn in turns:
            self.store.save_turn(session, turn)
        is_open = session in self.sessions
        self.store.save_session(session, is_open=is_open, place=self.sessions.index(session) if is_open else 0)

    def new_session(self) -> Session:
        taken = {s.name for s in self.sessions}
        number = next(n for n in range(1, len(taken) + 2) if f"chat {n}" not in taken)
        like = self.active
        session = self._add(
            Session(
                f"chat {number}",
                system_prompt=like.system_prompt,
                params=like.params,
                priority=like.priority,
                tools=like.tools.like(),
            )
        )
        self.activate(session)
        return session

    def fork(self, session: Session, until: Turn | None = None) -> Session:
        """A new tab beside the session that begins as it does up to a turn, and goes its own way from there.

        Their prompts begin alike, and so they share blocks of the KV cache.
        """
        taken = {s.name for s in self.sessions}
        names = (f"{session.name} ({n})" for n in range(2, len(taken) + 3))
        fork = self._add(
            session.fork(next(n for n in names if n not in taken), until), self.sessions.index(session) + 1
        )
        self.save(fork, *fork.turns.values())
        for mine, own in zip(session.path(), fork.turns.values(), strict=False):
            for receipt in fork.receipts_of(own):
                self.store.save_receipt(fork, receipt)
                if (result := self.store.result(call_id(mine.id, receipt.index))) is not None:
                    self.store.save_result(fork, receipt.call_id, result)
        for s in self.sessions:
            self.save(s)
        return fork

    def activate(self, session: Session) -> None:
        self.active = session
        self.unseen.discard(session.id)
        self.store.save_setting("active", session.id)

    def rename(self, session: Session, name: str) -> None:
        if any(point.session == session.name for point in self.breakpoints):
            renamed = [replace(p, session=name) if p.session == session.name else p for p in self.breakpoints]
            self.set_breakpoints(renamed)
        session.name = name
        self.save(session)

    def close(self, session: Session) -> bool:
        """Close a tab; says whether an answer was stopped by it."""
        stopped = self.stop(session)
        index = self.sessions.index(session)
        self.sessions.remove(session)
        self._closed.append(session)
        if not self.sessions:
            self._automatic = self._add(self._first_session("chat 1"))
        if session is self.active:
            self.activate(self.sessions[min(index, len(self.sessions) - 1)])
        for s in (session, *self.sessions[index:]):
            self.save(s)
        return stopped

    def reopen(self) -> Session | None:
        """Bring back the tab closed last."""
        if not self._closed:
            return None
        session = self._closed.pop()
        self._add(session)
        self.activate(session)
        self._go_on(session)
        return session

    def open_stored(self, session_id: str) -> Session | None:
        """Open a session of the store, or go to it if it is open; None if another window has it."""
        known = next((s for s in (*self.sessions, *self._closed) if s.id == session_id), None)
        if known is None:
            known = self.store.claim(session_id)
        if known is None:
            return None
        if known in self._closed:
            self._closed.remove(known)
        if known not in self.sessions:
            self._add(known)
            self._go_on(known)
        self.activate(known)
        return known

    def forget(self, session_id: str) -> bool:
        """Delete a closed session for ever; refuses an open one."""
        if any(s.id == session_id for s in self.sessions):
            return False
        self._closed = [s for s in self._closed if s.id != session_id]
        self.store.forget(session_id)
        return True

    # --- asking -----------------------------------------------------------------------------------------------------

    def send(self, session: Session, text: str) -> Turn:
        """Add a question to the session and ask for its answer."""
        if not session.turns and session.name.startswith("chat "):
            words = " ".join(text.split())
            self.rename(session, words if len(words) <= FIRST_WORDS else words[: FIRST_WORDS - 1].rstrip() + "…")
        question = session.add(Turn("user", text, parent=session.head))
        session.draft = ""
        self.store.save_turn(session, question)
        return self._ask(session, question)

    def edit(self, session: Session, question: Turn, text: str) -> Turn:
        """Ask a changed question in the place of an old one, which stays as an earlier version."""
        changed = session.add(Turn("user", text, parent=question.parent))
        session.draft = ""
        self.store.save_turn(session, changed)
        return self._ask(session, changed)

    def regenerate(self, session: Session, answer: Turn) -> Turn | None:
        """Ask again for an answer; the old one stays as an earlier version."""
        question = session.turns.get(answer.parent or "")
        return None if question is None else self._ask(session, question)

    def _ask(self, session: Session, question: Turn, turn: Turn | None = None, attempts: int = 1) -> Turn:
        turn = turn or session.add(Turn("assistant", parent=question.id))
        turn.state = TurnState.WAITING
        command = Submit(new_id(), session.name, session.prompt(until=question.id), session.params, session.priority)
        self._answers[command.request_id] = Answer(session, turn, command, self.clock(), attempts)
        self.save(session, turn)
        self._send_waiting()
        return turn

    def _send_waiting(self) -> None:
        if not self.watch.ready:
            return
        for answer in self._answers.values():
            if not answer.sent and self._equip(answer):
                answer.sent = True
                self.link.submit(answer.command)

    def _equip(self, answer: Answer) -> bool:
        """Make the prompt of a session what it is to be; False while its tools are loaded, or room is made."""
        session = answer.session
        if session.tools.on:
            if not self.kit.ready:
                self.kit.load()
                return False
            self.kit.equip(session)
        if not self.compactor.fits(session, answer.turn.parent):
            return False
        answer.command = replace(answer.command, prompt=session.prompt(until=answer.turn.parent))
        return True

    def stop(self, session: Session) -> bool:
        """Stop the session's answer, or its tool calls; the text so far stays. Says whether there was anything."""
        for request_id, answer in list(self._answers.items()):
            if answer.session is not session or answer.stopped:
                continue
            answer.stopped = True
            answer.turn.state, answer.turn.reason = TurnState.DONE, FinishReason.ABORTED.value
            self.save(session, answer.turn)
            if answer.sent:
                self.link.abort(request_id)
            else:
                self.compactor.drop(session)
                del self._answers[request_id]
            return True
        return self.exchanges.stop(session)

    def answering(self, session: Session) -> Turn | None:
        """The answer being written in the session, if there is one."""
        return next((a.turn for a in self._answers.values() if a.session is session and not a.stopped), None)

    def under_way(self, session: Session) -> bool:
        """Whether more can come for the session: an answer, the end of one that was stopped, or the end of a call."""
        return any(a.session is session for a in self._answers.values()) or self.exchanges.of(session) is not None

    def busy(self, session: Session) -> bool:
        """Whether a message would have to wait: for an answer, or for tool calls."""
        return self.answering(session) is not None or self.exchanges.of(session) is not None

    def answer_of(self, turn: Turn) -> Answer | None:
        """The request that writes this turn, while it runs."""
        return next((a for a in self._answers.values() if a.turn is turn), None)

    # --- the engine's events ----------------------------------------------------------------------------------------

    def poll(self) -> Changes:
        """Take in everything that the engine has sent since the last call."""
        changes = Changes()
        before = self.watch.phase
        try:
            events = self.link.drain()
        except GlasschatError as error:
            events = [EngineDied(str(error), restartable=True)]
        for event in events:
            self._on_event(event, changes)
        self.watch.tick(self.clock())
        changes.sessions |= self.exchanges.changed
        self.exchanges.changed.clear()
        changes.notices += self._sayings
        self._sayings.clear()
        self._send_waiting()
        if before is not self.watch.phase or self.watch.phase is Phase.DEAD:
            changes.engine = True
        return changes

    def _on_event(self, event: Event, changes: Changes) -> None:
        self.watch.on_event(event, self.clock())
        if self.measurement is not None:
            self.measurement.on_event(event)
            self._note_measurement(self.measurement, changes)
        if isinstance(event, MessageCounts | Delta | Finished) and self.compactor.on_event(event):
            return
        match event:
            case StepRecord():
                self.last_step = event
                changes.records.append(event)
            case Delta(request_id=request_id):
                if (answer := self._answers.get(request_id)) is not None and not answer.stopped:
                    self._on_delta(answer, event, changes)
            case Started(request_id=request_id, prompt_tokens=tokens):
                if (answer := self._answers.get(request_id)) is not None:
                    answer.turn.prompt_tokens = tokens
            case Finished(request_id=request_id):
                changes.finished.append(event)
                if (answer := self._answers.pop(request_id, None)) is not None:
                    self._on_finished(answer, event, changes)
            case TokenCount():
                changes.counts.append(event)
            case Configured():
                changes.configured.append(event)
                changes.events.append(event)
            case Stepping():
                changes.events.append(event)
            case PrefixExplained(session=session, text=text):
                changes.notices.append(f"{session}: {text}")
            case Recorded():
                changes.notices.append(_about_recording(event))
            case Ready():
                changes.engine = True
                if self.breakpoints:
                    self.set_breakpoints(self.breakpoints)
                self._send_waiting()
            case EngineDied():
                changes.engine = True
                self._on_death(event, changes)
            case _:
                pass

    def sent(self) -> list[Answer]:
        """Answers that the engine was asked for and that have not ended."""
        return [answer for answer in self._answers.values() if answer.sent]

    def set_breakpoints(self, points: Iterable[Until]) -> None:
        """Pause the engine whenever one of these happens."""
        self.breakpoints = tuple(points)
        if self.watch.ready:
            self.link.set_breakpoints(SetBreakpoints(self.breakpoints))

    # --- measurements -----------------------------------------------------------------------------------------------

    def measure(self, name: str, value: Any, *, live: bool = False) -> Measurement | str:
        """Begin to compare a value of an option with the present one; a sentence where that can't be done.

        `live`: by the steps of the chats, whatever they ask for; otherwise on work of its own.
        """
        watch = self.watch
        if self.measurement is not None and self.measurement.running:
            return f"{self.measurement.option} is being measured: wait for its end, or stop it (L shows it)"
        state = next((state for state in watch.options if state.name == name), None)
        before = getattr(watch.config, name)
        if not watch.ready or watch.model is None or state is None:
            return "the engine is not ready: measure when it is"
        if not state.live:
            return f"{name} changes when the engine restarts: measure it by running glasschat bench with either value"
        if value == before:
            return f"{name} is {in_words(value)} already: give another value to compare with"
        if live:
            self.measurement = Measurement.of_chats(self.link, name, before, value)
        else:
            self.measurement = Measurement.of_work(self.link, name, before, value, watch.model.vocab_size)
        watch.tried = name
        self.measurement.start()
        return self.measurement

    def give_up_measuring(self, option: str) -> None:
        """Its value is about to be changed by hand."""
        if self.measurement is not None and self.measurement.option == option:
            self.measurement.stop()
            self.measurement, self.watch.tried = None, ""

    def _note_measurement(self, measurement: Measurement, changes: Changes) -> None:
        if measurement.running:
            return
        self.measurement, self.watch.tried = None, ""
        if measurement.found:
            self.measured[measurement.option] = measurement.found
        if measurement.live and measurement.progress is Progress.FAILED:
            changes.notices.append(f"{measurement.option} is measured no longer: {measurement.problem}")
        elif measurement.live and measurement.found:
            changes.notices.append(f"Measured: {measurement.option} {measurement.found}.")

    def _on_delta(self, answer: Answer, event: Delta, changes: Changes) -> None:
        turn = answer.turn
        if answer.first_token is None:
            answer.first_token = self.clock()
            if answer.instead_of is not None and answer.session.head == answer.instead_of.id:
                answer.session.head = turn.id
                self.save(answer.session)
        turn.state = TurnState.STREAMING
        turn.text += event.text
        turn.output_tokens += len(event.token_ids)
        turn.tokens.add(len(event.token_ids), len(turn.text), drafted=event.drafted)
        self.store.save_turn(answer.session, turn)
        changes.sessions.add(answer.session.id)
        if answer.session.tools.on and not answer.made_up:
            answer.made_up = any(isinstance(piece, MadeUp) for piece in answer.parser.feed(event.text))
            if answer.made_up:
                self.link.abort(event.request_id)

    def _on_finished(self, answer: Answer, event: Finished, changes: Changes) -> None:
        turn, timings = answer.turn, event.timings
        if answer.made_up and not answer.stopped:
            turn.reason, turn.note = FinishReason.STOP.value, MADE_UP
        elif not answer.stopped:
            turn.reason, turn.note = event.reason.value, event.message
        turn.state = TurnState.DONE
        turn.prompt_tokens, turn.output_tokens = timings.prompt_tokens, timings.output_tokens
        turn.ttft, turn.speed = timings.ttft, timings.tokens_per_second
        self.save(answer.session, turn)
        self.compactor.learn(answer.session, answer.command.prompt, turn)
        changes.sessions.add(answer.session.id)
        complete = turn.reason in (FinishReason.STOP.value, FinishReason.LENGTH.value)
        if complete and answer.session.tools.on and self.exchanges.begin(answer.session, turn):
            return
        self._look_up(answer.session)

    def _look_up(self, session: Session) -> None:
        """There is something to see in a session that may not be on screen."""
        if session is not self.active:
            self.unseen.add(session.id)

    def _calls_done(self, session: Session, turn: Turn, goes_on: bool) -> None:
        """The calls of an answer have ended: on to the next round, if there is one."""
        if goes_on:
            self._ask(session, turn)
        else:
            self.save(session, turn)
            self._look_up(session)

    def _on_death(self, event: EngineDied, changes: Changes) -> None:
        lost = list(self._answers.values())
        changes.sessions.update(answer.session.id for answer in lost)
        self._lose_answers(event.message, again=event.restartable)
        if lost:
            changes.notices.append(
                "The engine stopped; what was written is kept"
                + (", and it is asked again as soon as the engine is back" if event.restartable else "")
            )

    def restart_engine(self) -> None:
        """Start the engine again, with the options as they are asked for; answers under way are asked again."""
        # First the phase: what is asked from here on waits until the new engine is ready.
        self.watch.restart()
        self._lose_answers("it was restarted", again=True, blame=False)

    def _lose_answers(self, message: str, *, again: bool, blame: bool = True) -> None:
        """Keep what was written, and ask again once the engine is back, unless it died of a question too often."""
        lost, self._answers = self._answers, {}
        self.compactor.engine_lost()
        for request_id, answer in lost.items():
            if answer.stopped:
                continue
            if not answer.sent and again:
                self._answers[request_id] = answer
                continue
            session, turn, attempts = answer.session, answer.turn, answer.attempts + blame
            if turn.parent not in session.turns or not again or attempts > MAX_ATTEMPTS:
                turn.state, turn.note = TurnState.INTERRUPTED, f"the engine stopped: {message}"
                self.save(session, turn)
            else:
                self._ask_again(session, turn, attempts, "the engine stopped", answer.instead_of)

    def _ask_again(self, session: Session, turn: Turn, attempts: int, why: str, instead_of: Turn | None) -> None:
        """Ask for another answer in the place of one that was interrupted.

        One with text stays on screen until there is some of the new one, as does `instead_of`, which one without text
        was to replace.
        """
        shown = session.head
        turn.note = f"{why}: this stays here until the answer that is asked for again begins" if turn.text else ""
        if turn.text:
            turn.state, instead_of = TurnState.INTERRUPTED, turn
        again = None if turn.text else turn
        fresh = self._ask(session, session.turns[turn.parent or ""], again, attempts)
        if instead_of is not None:
            fresh.note = f"asked again after {why}; the interrupted answer is the version before"
            if (under_way := self.answer_of(fresh)) is not None:
                under_way.instead_of = instead_of
            session.head = shown
        self.save(session, turn, fresh)

    def set_params(self, session: Session, params: SamplingParams, system_prompt: str, priority: int) -> None:
        session.params, session.system_prompt, session.priority = params, system_prompt, priority
        self.save(session)

    def set_tools(self, session: Session, on: bool, directory: str) -> None:
        """From the next message on, the session has tools or not; and where they look."""
        self.compactor.drop(session)
        session.tools.on, session.tools.directory = on, directory
        self.save(session)

    def unfold(self, session: Session, *, refused: bool) -> None:
        """Send everything in full again. `refused`: and fold nothing by itself from now on."""
        self.compactor.drop(session)
        session.tools.folds = Folds(refused=refused)
        self.save(session)

    async def close_tools(self) -> None:
        """End all calls and what they started, before the app's loop ends."""
        await self.exchanges.close()
        await self.kit.close()

    def shut_down(self) -> None:
        """Mark what is still being written as interrupted and let the store write it all.

        What was to come after the results of tool calls goes on at the next start, as calls do, and so does what had
        gone on already.
        """
        for answer in self._answers.values():
            if not answer.stopped:
                session, turn = answer.session, answer.turn
                turn.state, turn.note = TurnState.INTERRUPTED, ENDED_WHILE_WRITING
                asked_by = session.turns.get(turn.parent or "")
                if answer.instead_of is not None or (asked_by is not None and not asked_by.is_question):
                    turn.reason = CUT_OFF
                self.save(session, turn)
        unused = self._automatic
        if unused is not None and not unused.turns and not unused.draft and unused.name == "chat 1":
            self.store.forget(unused.id)
        self.store.close()


def _about_recording(event: Recorded) -> str:
    if event.active:
        again = f" {event.message[0].upper()}{event.message[1:]}." if event.message else ""
        return f"Recording to {event.path}: arrivals, options, decisions and tokens.{again}"
    if event.message:
        return f"Not recorded: {event.message}"
    return f"Recorded to {event.path}: glasschat replay, what-if and trace read it."
