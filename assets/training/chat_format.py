"""Messages and their ChatML text: the same text that chat_template.jinja makes, in labelled pieces for training."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMPLATE_FILE = Path(__file__).resolve().parent / "chat_template.jinja"

Message = dict[str, Any]

DEMO_TOOLS: dict[str, list[str]] = {
    "calculator": ["expression"],
    "clock": ["what", "zone"],
    "search_docs": ["query"],
}
ENGINE_TOOLS: dict[str, list[str]] = {"engine_state": []}
FILE_TOOLS: dict[str, list[str]] = {
    "list_files": ["path", "pattern", "deep"],
    "read_file": ["path", "start", "lines"],
    "search_files": ["text", "path", "pattern", "ignore_case"],
    "edit_file": ["path", "old", "new", "everywhere"],
    "create_file": ["path", "content"],
    "run_command": ["command", "seconds"],
    "read_result": ["call_id", "start", "lines"],
}
APP_TOOLS = DEMO_TOOLS | ENGINE_TOOLS | FILE_TOOLS
"""All that the app offers."""

NOT_MADE = "error: this call was not made"
"""What the app gives as the result of a call without one, once something else is asked."""


@dataclass
class Conversation:
    """Messages, and the tools that the prompt lists (name -> argument names)."""

    messages: list[Message]
    tools: dict[str, list[str]] | None = None

    @property
    def copies(self) -> bool:
        """Whether an answer repeats words of the user, or of a result."""
        return any(message.get("copied") for message in self.messages)


@dataclass(frozen=True)
class Piece:
    """A piece of the text; learned pieces are what the model itself has to write."""

    text: str
    learned: bool
    spoken_by: str
    copied: bool = False
    """Whether an answer repeats words of it."""


def user(text: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": text}


def assistant(text: str, about: str = "") -> Message:
    """An answer in words; `about` names its subject if the text is none of the corpus."""
    message = {"role": "assistant", "content": text}
    return {**message, "about": about} if about else message


def tool_call(name: str, about: str = "", **arguments: str) -> Message:
    """An answer that calls a tool; `about` names more than the tool where that is known at once."""
    calls = [{"name": name, "arguments": arguments}]
    return {"role": "assistant", "content": "", "tool_calls": calls, "about": about or name}


def until_last_call(messages: list[Message]) -> list[Message]:
    """Without what comes after the last call of a tool."""
    calls = [place for place, message in enumerate(messages) if "tool_calls" in message]
    return messages[: calls[-1] + 1] if calls else messages


def tool_result(text: str) -> Message:
    """What a tool returned."""
    return {"role": "tool", "content": text}


def with_refusals(messages: list[Message]) -> list[Message]:
    """As the app says it: a call that has no result when something else is asked was not made. (Tools are off until
    somebody turns them on.)"""
    said: list[Message] = []
    for message in messages:
        if said and "tool_calls" in said[-1] and message["role"] == "user":
            said.append(tool_result(NOT_MADE))
        said.append(message)
    return said


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """A tool call as the model writes it."""
    payload = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{payload}\n</tool_call>"


def tool_list(tools: dict[str, list[str]]) -> str:
    """The compact list of tools that ends the system message."""
    return "\n".join(["# Tools", *(f"{name}({', '.join(names)})" for name, names in tools.items())])


def tool_schemas(tools: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The tools as JSON schemas, the form in which chat templates take them."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {
                    "type": "object",
                    "properties": {argument: {"type": "string"} for argument in arguments},
                },
            },
        }
        for name, arguments in tools.items()
    ]


def copied(messages: list[Message]) -> list[Message]:
    """The same, marked: answers among them repeat words of the others."""
    return [{**message, "copied": True} for message in messages]


def _turn(role: str, content: str, is_copied: bool = False) -> list[Piece]:
    learned = role == "assistant"
    return [
        Piece(f"<|im_start|>{role}\n", False, "format"),
        Piece(content + "<|im_end|>", learned, role, is_copied),
        Piece("\n", False, "format"),
    ]


def _answer_text(message: Message) -> str:
    calls = [call_text(call["name"], call["arguments"]) for call in message.get("tool_calls", [])]
    return "\n".join(part for part in [message["content"], *calls] if part)


def pieces(conversation: Conversation) -> list[Piece]:
    """The whole conversation as pieces of ChatML text."""
    messages = list(conversation.messages)
    system = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else ""
    if conversation.tools:
        listed = tool_list(conversation.tools)
        system = f"{system}\n\n{listed}" if system else listed
    result = _turn("system", system) if system else []
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        if message["role"] == "tool":
            responses = [message["content"]]
            while position < len(messages) and messages[position]["role"] == "tool":
                responses.append(messages[position]["content"])
                position += 1
            wrapped = "\n".join(f"<tool_response>\n{text}\n</tool_response>" for text in responses)
            result += _turn("user", wrapped, message.get("copied", False))
        elif message["role"] == "assistant":
            result += _turn("assistant", _answer_text(message))
        else:
            result += _turn(message["role"], message["content"], message.get("copied", False))
    return result


def prompt_text(conversation: Conversation) -> str:
    """The text that the model gets to continue with its answer."""
    return "".join(piece.text for piece in pieces(conversation)) + "<|im_start|>assistant\n"
