"""The engine as a library: a model in this process, answering what it is given in one batch.

from inference import LLM, SamplingParams
llm = LLM("demo")
for completion in llm.generate(["The KV cache", "A block table"], SamplingParams(max_tokens=32)):
    print(completion.text)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast
from weakref import WeakValueDictionary

from inference.engine.prompts import encode_prompt
from inference.engine.start import start
from inference.errors import ConfigError, RequestError
from inference.protocol import (
    ChatPrompt,
    Delta,
    EngineConfig,
    Event,
    Finished,
    FinishReason,
    Message,
    OptionState,
    Prompt,
    SamplingParams,
    Started,
    StepRecord,
    Submit,
    TextPrompt,
    Timings,
    TokenLogprob,
    TokenPrompt,
)
from inference.tools.thoughts import split_thought


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, complete."""

    text: str
    """As the model wrote it. Where the chat template opened a thought, with its marker first."""
    token_ids: tuple[int, ...]
    """All that was sampled: an end-of-text token and the tokens of a stop string included."""
    prompt_token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...]
    """One for each token, if the parameters asked for them."""
    timings: Timings
    seed: int
    """Sampling again with it gives the same tokens."""
    error: str = ""
    """If `finish_reason` is error: one sentence saying what to do."""

    @property
    def thought(self) -> str:
        """What a reasoning model wrote for itself first, without the markers; empty if there is nothing of the kind."""
        return split_thought(self.text)[0]

    @property
    def answer(self) -> str:
        """The text without the thought."""
        return split_thought(self.text)[1]


AnyPrompt = Prompt | str | Sequence[int]
"""Text, token ids, or one of the protocol's prompts."""


class LLM:
    """A loaded model with an engine of its own. Use it from one thread."""

    def __init__(self, model: str = "demo", config: EngineConfig | None = None, **options: Any) -> None:
        """`options` are fields of `EngineConfig` and go before those of `config`.

        Raises ModelError for a model that can't be loaded, ConfigError for a bad option.
        """
        known = [f.name for f in fields(EngineConfig)]
        for name in options:
            if name not in known:
                raise ConfigError(f"there is no option {name!r}; the options are {', '.join(known)}")
        config = replace(config or EngineConfig(), **options)
        self.engine = start(model, config)
        self.loaded = loaded = self.engine.loaded
        self.tokenizer = loaded.tokenizer
        self.special_token_ids = loaded.tokenizer.special_ids | loaded.eos_ids
        self._streams: WeakValueDictionary[str, Stream] = WeakValueDictionary()
        self._dropped: deque[str] = deque()
        """Requests whose stream nobody holds any more; aborted before the next step."""
        self._submitted = 0
        self.last_step: StepRecord | None = None
        """What the engine did in its latest step."""

    @property
    def options(self) -> tuple[OptionState, ...]:
        """Every option as asked for and as in force."""
        return self.engine.options

    def generate(
        self,
        prompts: AnyPrompt | Sequence[AnyPrompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[Completion]:
        """Answer all prompts in one continuous batch; the answers come in the order of the prompts.

        `params` is for all of them, or one for each. A prompt that can't be served gets a completion with
        `finish_reason` error and does not disturb the others. Raises RequestError if there are more or fewer `params`
        than prompts.
        """
        listed = _prompts(prompts)
        streams = [self.stream(p, its) for p, its in zip(listed, _each(params, len(listed)), strict=True)]
        try:
            while any(stream.completion is None for stream in streams):
                self._step()
        finally:
            for stream in streams:
                stream.close()
        return [stream.completion for stream in streams if stream.completion is not None]

    def stream(self, prompt: AnyPrompt, params: SamplingParams | None = None) -> Stream:
        """Answer one prompt piece by piece. Several streams may be open at once; they share the batch."""
        self._submitted += 1
        request_id = f"llm-{self._submitted}"
        asked = _prompt(prompt)
        try:
            asked = encode_prompt(asked, self.tokenizer, self.engine.model_info.vocab_size)
            ids = asked.token_ids
        except RequestError:
            ids = ()  # the engine will say the same as its refusal
        stream = Stream(self, request_id, ids)
        self._streams[request_id] = stream
        self._deliver(self.engine.submit(Submit(request_id, "llm", asked, params or SamplingParams())))
        return stream

    def chat(
        self,
        messages: Iterable[Message | Mapping[str, Any]],
        params: SamplingParams | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Completion:
        """The assistant's answer to a conversation, rendered with the model's chat template."""
        turns = tuple(m if isinstance(m, Message) else Message(**m) for m in messages)
        return self.generate(ChatPrompt(turns, tuple(tools)), params)[0]

    def _step(self) -> None:
        while self._dropped:
            self.engine.abort(self._dropped.popleft())
        self._deliver(self.engine.step())

    def _deliver(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, StepRecord):
                self.last_step = event
            elif isinstance(event, Started | Delta | Finished) and (stream := self._streams.get(event.request_id)):
                stream._take(event)

    def _abort(self, request_id: str) -> None:
        self._deliver(self.engine.abort(request_id))


class Stream:
    """An iterator over the pieces of one answer: `Delta`s with `text` and `token_ids`. Asking for one runs the engine.

    When it is through, `completion` holds the whole. Raises RequestError if the request fails. Leaving early (`close`,
    the end of a `with`, or dropping the object) stops the request.
    """

    def __init__(self, llm: LLM, request_id: str, prompt_token_ids: tuple[int, ...]) -> None:
        self.completion: Completion | None = None
        self._llm = llm
        self._request_id = request_id
        self._prompt_token_ids = prompt_token_ids
        self._seed = 0
        self._pieces: deque[Delta] = deque()
        self._taken: list[Delta] = []

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        while not self._pieces:
            if self.completion is None:
                self._llm._step()
            elif self.completion.finish_reason is FinishReason.ERROR:
                raise RequestError(self.completion.error)
            else:
                raise StopIteration
        return self._pieces.popleft()

    def close(self) -> None:
        """Stop the request if it still runs; `completion` then holds what there was."""
        if self.completion is None:
            self._llm._abort(self._request_id)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self.completion is None:
            # Collected at any moment, perhaps within a step: only leave word.
            self._llm._dropped.append(self._request_id)

    def _take(self, event: Started | Delta | Finished) -> None:
        match event:
            case Started():
                self._seed = event.seed
            case Delta():
                self._pieces.append(event)
                self._taken.append(event)
            case Finished():
                self.completion = Completion(
                    text="".join(delta.text for delta in self._taken),
                    token_ids=tuple(token for delta in self._taken for token in delta.token_ids),
                    prompt_token_ids=self._prompt_token_ids,
                    finish_reason=event.reason,
                    logprobs=tuple(logprob for delta in self._taken for logprob in delta.logprobs),
                    timings=event.timings,
                    seed=self._seed,
                    error=event.message,
                )


def _prompt(prompt: AnyPrompt) -> Prompt:
    if isinstance(prompt, str):
        return TextPrompt(prompt)
    if isinstance(prompt, ChatPrompt | TextPrompt | TokenPrompt):
        return prompt
    return TokenPrompt(tuple(prompt))


def _prompts(prompts: AnyPrompt | Sequence[AnyPrompt]) -> list[AnyPrompt]:
    """A lone prompt as a list of one: text, a prompt object, or token ids (a sequence that begins with a number)."""
    if isinstance(prompts, str | ChatPrompt | TextPrompt | TokenPrompt):
        return [prompts]
    if prompts and isinstance(prompts[0], int):
        return [cast(Sequence[int], prompts)]
    return list(cast(Sequence[AnyPrompt], prompts))


def _each(params: SamplingParams | Sequence[SamplingParams] | None, count: int) -> Sequence[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    if len(params) != count:
        raise RequestError(f"there are {count} prompts, but {len(params)} sampling parameters: give one for each")
    return params
