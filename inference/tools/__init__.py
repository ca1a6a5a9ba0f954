"""Tools that the model can call. They run in the app's process, never in the engine's, and know neither of the two.

An app goes through an exchange like this:

    context = Context(workspace=Workspace(folder), results=store, engine_state=last_step_as_text).within(max_model_len)
    settings = read_settings(path)                      # or ToolSettings()
    toolbox, problems = load_toolbox(settings, context) # built in, packages, files; ConfigError is one sentence
    rounds = Rounds(toolbox, grants, settings.max_rounds)  # one for each question of the user

    prompt = ChatPrompt(messages, toolbox.schemas)      # the schemas must be the same in every round: the KV cache
                                                        # is found again by its beginning
    parser = AnswerParser()                             # for each answer, as it streams
    for piece in parser.feed(delta.text): …             # Thought, Text to show; CallBegan, CallRead, MadeUp to draw
    … parser.finish()

    rounds.answered(turn.id, whole_text)                # when the answer is complete
    await serve(rounds, context, ask, keep)             # in a task of the session; cancel it to stop everything
    if rounds.phase is Phase.ANSWER:                    # the next prompt begins with all tokens of the last
        prompt = ChatPrompt((*messages, *rounds.messages()), toolbox.schemas)
    else: …                                             # Phase.OVER: rounds.outcome says how

`ask(receipt, preview) -> Decision` is a coroutine of the app: its dialog. It shows `preview.text` (a unified diff for
an edit, the argument list for a command, the arguments otherwise), `preview.warnings`, and `preview.scope`: what "for
this session" would allow. Esc means `Decision.NO`; a `Verdict` is a decision with a reason for the model. Only this
session waits for it.

`keep(receipt)` is a coroutine that returns when the receipt is on disk (`Receipt.to_json`, keyed by `call_id`). It gets
every receipt in every state that it reaches, RUNNING before the call begins.

Stored with a session: the text of each answer as the model wrote it, `receipts`, `Grants.decisions`, and what the
`ResultStore` gets. To resume after a crash: `Rounds(toolbox, grants, receipts=stored)`, then `rounds.answered` for each
stored answer of the exchange in order, then go on as above. Finished calls are not made again, and a change that was
running is reported as interrupted. For a transcript, `parse_answer(text)` takes a stored answer apart, and
`call_id(turn.id, call.index)` finds its receipts.

`compaction` says what to fold when a conversation nears the context's limit. MCP servers are started and
stopped by the app: `tools, problems = await McpServers(settings.mcp).start()`, which `load_toolbox` takes as `others`,
and `await servers.close()` at the end, in the same event loop.

Names are imported when first used: a start without tools does not pay for pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.tools.calls import Call, CallError, call_id
    from inference.tools.context import Context, MemoryResults, ResultStore
    from inference.tools.definition import Effect, Preview, Tool, ToolError, tool, visible
    from inference.tools.markup import Answer, AnswerParser, CallBegan, CallRead, MadeUp, Text, Thought, parse_answer
    from inference.tools.mcp_servers import McpServers
    from inference.tools.receipts import CallState, Decision, Grants, Receipt, Verdict
    from inference.tools.results import Result
    from inference.tools.rounds import Outcome, Phase, Rounds
    from inference.tools.running import preview, run, serve
    from inference.tools.settings import McpServer, ToolSettings, read_settings
    from inference.tools.thoughts import ThoughtReader, split_thought
    from inference.tools.toolbox import Toolbox, load_toolbox
    from inference.tools.workspace import Workspace

_HOMES = {
    "calls": ("Call", "CallError", "call_id"),
    "context": ("Context", "MemoryResults", "ResultStore"),
    "markup": ("Answer", "AnswerParser", "CallBegan", "CallRead", "MadeUp", "Text", "Thought", "parse_answer"),
    "mcp_servers": ("McpServers",),
    "receipts": ("CallState", "Decision", "Grants", "Receipt", "Verdict"),
    "results": ("Result",),
    "rounds": ("Outcome", "Phase", "Rounds"),
    "running": ("preview", "run", "serve"),
    "definition": ("Effect", "Preview", "Tool", "ToolError", "tool", "visible"),
    "settings": ("McpServer", "ToolSettings", "read_settings"),
    "thoughts": ("ThoughtReader", "split_thought"),
    "toolbox": ("Toolbox", "load_toolbox"),
    "workspace": ("Workspace",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "AnswerParser",
    "Call",
    "CallBegan",
    "CallError",
    "CallRead",
    "CallState",
    "Context",
    "Decision",
    "Effect",
    "Grants",
    "MadeUp",
    "McpServer",
    "McpServers",
    "MemoryResults",
    "Outcome",
    "Phase",
    "Preview",
    "Receipt",
    "Result",
    "ResultStore",
    "Rounds",
    "Text",
    "Thought",
    "ThoughtReader",
    "Tool",
    "ToolError",
    "ToolSettings",
    "Toolbox",
    "Verdict",
    "Workspace",
    "call_id",
    "load_toolbox",
    "parse_answer",
    "preview",
    "read_settings",
    "run",
    "serve",
    "split_thought",
    "tool",
    "visible",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(f"inference.tools.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
