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
from inference.errors import ConfigError, RequestError
from inference.protocol import SamplingParams
from inference.tools.workspace import Workspace


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

TOOLS = Field("tools", "tools", "yes: the model may call tools (F1)", _read_flag, lambda v: "yes" if v else "no")
ROWS = (*FIELDS, PRIORITY, TOOLS)
DIRECTORY = "directory"
DIRECTORY_HINT = "tools see nothing outside of it; empty: where glasschat was started"


@dataclass(frozen=True, slots=True)
class Settings:
    params: SamplingParams
    system_prompt: str
    priority: int
    tools: bool
    directory: str
    """Where tools look for files; empty for where glasschat was started."""


def read_field(field: Field, text: str) -> tuple[Any, str]:
    """The value that the text stands for, and why it is not acceptable (empty if it is)."""
    try:
        value = field.read(text)
        if field not in (PRIORITY, TOOLS):
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

    def __init__(self, session: Session, default: str) -> None:
        """`default` is the workspace of tools where none is named."""
        super().__init__()
        self._session, self._default = session, default

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
                    for field in ROWS:
                        yield Label(field.label)
                        yield Input(field.write(self._value(field)), id=field.name, compact=True)
                        yield Static(field.hint, id=f"hint-{field.name}", classes="hint")
                yield Label("workspace of the tools", classes="heading")
                yield Input(self._session.tools.directory, id=DIRECTORY, placeholder=self._default, compact=True)
                yield Static(DIRECTORY_HINT, id=f"hint-{DIRECTORY}", classes="hint")
                yield Static("Changes apply from the next answer of this session on.", classes="hint")

    def on_mount(self) -> None:
        self.query_one("#temperature", Input).focus()

    def _value(self, field: Field) -> Any:
        session = self._session
        if field is TOOLS:
            return session.tools.on
        return getattr(session if field is PRIORITY else session.params, field.name)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == DIRECTORY:
            self._check_directory()
        else:
            self._check(next(f for f in ROWS if f.name == event.input.id))

    def _check_directory(self) -> tuple[str, str]:
        """Show below the field what is wrong with the directory, or else what it is for."""
        named, error = self.query_one(f"#{DIRECTORY}", Input).value.strip(), ""
        try:
            directory = str(Workspace(named).root) if named else ""
        except (ConfigError, OSError) as problem:
            directory, error = "", str(problem)
        hint = self.query_one(f"#hint-{DIRECTORY}", Static)
        hint.update(Content(f"✗ {error}" if error else DIRECTORY_HINT))
        hint.set_class(bool(error), "error")
        return directory, error

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
        for field in ROWS:
            values[field.name], error = self._check(field)
            if error:
                wrong.append(field.name)
        directory, error = self._check_directory()
        if error:
            wrong.append(DIRECTORY)
        if wrong:
            self.query_one(f"#{wrong[0]}", Input).focus()
            return
        priority, tools = values.pop(PRIORITY.name), values.pop(TOOLS.name)
        params = SamplingParams(**values, logprobs=self._session.params.logprobs)
        self.dismiss(Settings(params, self.query_one("#system", TextArea).text, priority, tools, directory))

    def action_defaults(self) -> None:
        for field in FIELDS:
            self.query_one(f"#{field.name}", Input).value = field.write(getattr(DEFAULT_PARAMS, field.name))
        self.query_one(f"#{PRIORITY.name}", Input).value = "0"
