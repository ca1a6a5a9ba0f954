"""A stand-in for huggingface.co on 127.0.0.1: serves the files of model directories as repositories."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repositories: dict[str, Path], gated: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Serve each directory as the repository it is named by; the address, and a list that fills with "GET /path"."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests.append(f"GET {self.path}")
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            requests.append(f"HEAD {self.path}")
            self._answer(with_body=False)

        def _answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0].removeprefix("/api/models").strip("/")
            repo = "/".join(path.split("/")[:2])
            if repo in gated:
                self._send(403, b"{}", with_body, {"X-Error-Code": "GatedRepo"})
                return
            if repo not in repositories:
                self._send(404, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})
                return
            kind, revision, *names = path.split("/")[2:] or ["revision", "main"]
            if revision not in ("main", COMMIT):
                self._send(404, b"{}", with_body, {"X-Error-Code": "RevisionNotFound"})
                return
            files = {file.name: file for file in repositories[repo].iterdir()}
            if kind == "revision":
                siblings = [{"rfilename": name} for name in files]
                body: Any = {"id": repo, "sha": COMMIT, "siblings": siblings, "private": False}
                self._send(200, json.dumps(body).encode(), with_body)
            elif kind == "tree":
                body = [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)}
                    for name, file in files.items()
                ]
                self._send(200, json.dumps(body).encode(), with_body)
            else:
                file = files[names[0]]
                self._send(200, file.read_bytes(), with_body, {"ETag": f'"{_etag(file)}"'})

        def _send(self, status: int, body: bytes, with_body: bool, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"X-Repo-Commit": COMMIT, "Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
