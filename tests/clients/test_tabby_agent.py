"""Tabby's agent: it takes the server for ready, completes at a cursor, and cancels."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.wire.servers import Server

from .environments import Client

AGENT = Client("tabby.mjs", ("tabby-agent@1.5.0",))
BODY = b'{"prompt":"Once","max_tokens":900,"stream":true,"ignore_eos":true}'
HOLDING = (
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
)


def test_the_agent_finds_the_server_ready(server: Server) -> None:
    told = AGENT.run(server.url, "ready")
    assert told == {"status": "ready", "model": "default", "issues": []}


def test_the_agent_completes_and_reports(server: Server) -> None:
    with server.endings() as ended:
        told = AGENT.run(server.url, "whole")
    assert told["status"] == "ready"
    assert told["id"].startswith("cmpl-")
    assert ended.total() == 1
    assert set(ended) <= {"stop", "length"}


def test_an_agent_that_aborts_frees_its_place(tmp_path: Path) -> None:
    """The one slot is held by a reader that does not read, so that the agent's request waits."""
    server = Server(tmp_path / "log", "--slots=1", "--park-grace-s=1000")
    try:
        with (
            server.endings() as ended,
            socket.create_connection((server.host, server.port)) as held,
        ):
            held.sendall(HOLDING)
            server.wait_active(1)
            assert AGENT.run(server.url, "aborted") == "AbortError"
            server.wait_gauge("waiting", 0)
        assert ended == {"disconnect": 2}
    finally:
        server.stop()
