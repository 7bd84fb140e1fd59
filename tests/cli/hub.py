"""A model hub on loopback: the few requests that `huggingface_hub` makes, and their like."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves `folder` as one repository, ORG/NAME."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.cut_at: dict[str, int] = {}
        """Bytes of a file after which the next connection for it is closed."""
        self.ranges: list[tuple[str, str]] = []
        """Files that were asked for from some byte on."""
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub  # type: ignore[mutable-override]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        kind, _, revision = path.removeprefix("/api/models/org/name").strip("/").partition("/")
        if "/resolve/" in path:
            self._answer()
        elif revision not in ("", "main", COMMIT):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            files = [{"type": "file", "oid": "0" * 40, **each} for each in self._files()]
            self._send(200, json.dumps(files).encode())
        else:
            siblings = [{"rfilename": each["path"]} for each in self._files()]
            told = {"id": "org/name", "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(told).encode())

    def _files(self) -> list[dict[str, object]]:
        root = self.server.folder
        paths = [path for path in root.rglob("*") if path.is_file()]
        return [{"path": str(p.relative_to(root)), "size": p.stat().st_size} for p in paths]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Not on the terminal."""

    def _answer(self) -> None:
        """A file, or the rest of one."""
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        file = self.server.folder / name
        if not name or not file.is_file():
            self._send(404, b"")
            return
        data = file.read_bytes()
        etag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if self.command == "HEAD":
            self._send(200, data, etag)
            return
        self.server.fetched.append(name)
        asked = self.headers.get("Range", "")
        begin = int(asked.removeprefix("bytes=").partition("-")[0] or 0)
        if begin:
            self.server.ranges.append((name, asked))
            etag["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self._send(206 if begin else 200, data[begin:], etag, self.server.cut_at.pop(name, None))

    def _send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        cut_at: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:cut_at])
            self.close_connection = self.close_connection or cut_at is not None


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    with Hub(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
