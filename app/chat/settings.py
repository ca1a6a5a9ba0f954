"""The settings of one session: system prompt, every sampling parameter and priority, checked while they are typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static, TextArea

from app.sessions.session import DEFAULT_PARAMS, Session
from inference.errors import RequestError
from inference.protocol import SamplingParams


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    label: str
    hint: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


def _number(kind: type[int] | type[float], what: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise RequestError(f"must be {what}") from None

    return read


def _optional(read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: read(text) if text.strip() else None


def _read_stop(text: str) -> tuple[str, ...]:
    return tuple(part.strip().replace("\\n", "\n") for part in text.split("|")) if text.strip() else ()


def _read_bias(text: str) -> dict[int, float]:
    try:
        pairs = [part.split("=") for part in text.replace(",", " ").split()]
        return {int(token): float(bias) for token, bias in pairs}
    except ValueError:
        raise RequestError("must be pairs such as 17=-5, with commas") from None


def _read_flag(text: str) -> bool:
    if text.strip().lower() not in ("yes", "no"):
        raise RequestError("must be yes or no")
    return text.strip().lower() == "yes"


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


_float, _int = _number(float, "a number"), _number(int, "a whole number")

FIELDS = (
    Field("temperature", "temperature", "0 is greedy; higher is more varied", _float, _shown),
    Field("top_k", "top-k", "only the k likeliest; 0 is off", _int, _shown),
    Field("top_p", "top-p", "likeliest tokens of this share; 1 is off", _float, _shown),
    Field("min_p", "min-p", "least fraction of the likeliest; 0 is off", _float, _shown),
    Field("repetition_penalty", "repetition penalty", "above 1 avoids tokens seen before", _float, _shown),
    Field("presence_penalty", "presence penalty", "once for a token already in the answer", _float, _shown),
    Field("frequency_penalty", "frequency penalty", "for each time it is in the answer", _float, _shown),
    Field("seed", "seed", "same seed, same answer; empty: random", _optional(_int), _shown),
    Field("max_tokens", "max tokens", "longest answer; empty: no limit", _optional(_int), _shown),
    Field(
        "stop", "stop strings", "the answer ends before one of a | b", _read_stop,
        lambda v: " | ".join(s.replace("\n", "\\n") for s in v),
    ),
    Field(
        "logit_bias", "logit bias", "added to logits: id=bias, id=bias", _read_bias,
        lambda v: ", ".join(f"{t}={b:g}" for t, b in v.items()),
    ),
    Field("ignore_eos", "ignore EOS", "yes: go on past the model's end", _read_flag, lambda v: "yes" if v else "no"),
)  # fmt: skip
PRIORITY = Field("priority", "priority", "smaller first, by policy priority", _int, _shown)

Settings = tuple[SamplingParams, str, int]
"""Sampling, system prompt and priority."""


def read_field(field: Field, text: str) -> tuple[Any, str]:
    """The value that the text stands for, and why it is not acceptable (empty if it is)."""
    try:
        value = field.read(text)
        if field is not PRIORITY:
            SamplingParams(**{field.name: value})
    except RequestError as error:
        return None, str(error)
    return value, ""


class SettingsScreen(ModalScreen[Settings | None]):
    """Gives the new settings, or None if the old ones stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("ctrl+r", "defaults", "Defaults", priority=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog form") as box:
            box.border_title = Content(f"Settings of “{self._session.name}”").markup
            box.border_subtitle = "Tab next · Ctrl+S save · Ctrl+R defaults · Esc cancel"
            with VerticalScroll():
                yield Label("system prompt", classes="heading")
                yield TextArea(
                    self._session.system_prompt, id="system", placeholder="how the model should behave (may be empty)"
                )
                with Grid():
                    for field in (*FIELDS, PRIORITY):
                        yield Label(field.label)
                        value = getattr(self._session if field is PRIORITY else self._session.params, field.name)
                        yield Input(field.write(value), id=field.name, compact=True)
                        yield Static(field.hint, id=f"hint-{field.name}", classes="hint")
                yield Static("Changes apply from the next answer of this session on.", classes="hint")

    def on_mount(self) -> None:
        self.query_one("#temperature", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        field = next(f for f in (*FIELDS, PRIORITY) if f.name == event.input.id)
        self._check(field)

    def _check(self, field: Field) -> tuple[Any, str]:
        """Show beside the field what is wrong with it, or else what it is for."""
        value, error = read_field(field, self.query_one(f"#{field.name}", Input).value)
        hint = self.query_one(f"#hint-{field.name}", Static)
        hint.update(Content(f"✗ {error}" if error else field.hint))
        hint.set_class(bool(error), "error")
        return value, error

    def on_input_submitted(self) -> None:
        self.action_save()

    def action_save(self) -> None:
        values: dict[str, Any] = {}
        wrong: list[str] = []
        for field in (*FIELDS, PRIORITY):
            values[field.name], error = self._check(field)
            if error:
                wrong.append(field.name)
        if wrong:
            self.query_one(f"#{wrong[0]}", Input).focus()
            return
        priority = values.pop(PRIORITY.name)
        params = SamplingParams(**values, logprobs=self._session.params.logprobs)
        self.dismiss((params, self.query_one("#system", TextArea).text, priority))

    def action_defaults(self) -> None:
        for field in FIELDS:
            self.query_one(f"#{field.name}", Input).value = field.write(getattr(DEFAULT_PARAMS, field.name))
        self.query_one(f"#{PRIORITY.name}", Input).value = "0"
