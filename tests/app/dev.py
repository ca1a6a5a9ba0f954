"""The app on a scripted engine, for looking at it: `python -m tests.app.dev [session names]`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from app.main import run_app
from inference.protocol import EngineConfig, Submit
from tests.app.fake_engine import ANSWER, FakeEngine


def script(command: Submit) -> str:
    text = command.prompt.messages[-1].content.lower()
    if "12" in text:
        return '<tool_call>\n{"name": "calculator", "arguments": {"expression": "12 * 7"}}\n</tool_call>'
    return ANSWER * (50 if "long" in text else 1)


if __name__ == "__main__":
    engine = FakeEngine(script=script, rate=float(os.environ.get("GLASSCHAT_RATE", "25")))
    sys.exit(
        run_app(
            "demo",
            EngineConfig(),
            sys.argv[1:],
            link=engine,
            data=Path(os.environ.get("GLASSCHAT_DATA") or tempfile.mkdtemp("glasschat")),
        )
    )
