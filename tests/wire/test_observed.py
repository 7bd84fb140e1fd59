"""What a running server writes to standard error, and the ids on its wire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .raw import HANDSHAKE, Raw
from .servers import Server

pytestmark = [pytest.mark.wire, pytest.mark.slow]

PATH = "/v1/completions"
ASK = {"prompt": "a secret question", "max_tokens": 4, "ignore_eos": True}
HOSTILE = 'x"\x1b[2J\xff{"level":"error"}'


def lines_of(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


def test_json_lines_name_their_requests_and_cannot_be_forged(tmp_path: Path) -> None:
    server = Server(tmp_path / "log", "--log-format=json", "--log-level=debug")
    try:
        headers = {"x-request-id": "mine-1", "user-agent": HOSTILE}
        answer = server.ask("POST", PATH, ASK, **headers)
        assert answer.headers["x-request-id"] == "mine-1"
        assert server.ask("GET", "/nowhere", **headers).headers["x-request-id"] == "mine-1"
        page = server.ask("GET", "/metrics").body.decode()
    finally:
        server.stop()
    ended, refused = [line for line in lines_of(server) if line.get("request_id") == "mine-1"]
    assert (ended["event"], ended["generation_id"]) == ("generation ended", answer.json["id"])
    assert (refused["event"], refused["code"]) == ("request refused", "not_found")
    assert ended["user_agent"] == refused["user_agent"] == HOSTILE
    assert "\x1b" not in server.log()
    assert "secret" not in server.log() + page


def test_a_handshake_is_answered_with_the_id_of_its_request(tmp_path: Path) -> None:
    server = Server(tmp_path / "log")
    try:
        with Raw(server) as peer:
            peer.send(HANDSHAKE.replace(b"\r\n\r\n", b"\r\nx-request-id: mine-2\r\n\r\n"))
            head = peer.read_until(b"\r\n\r\n")
    finally:
        server.stop()
    assert b"x-request-id: mine-2\r\n" in head.lower()
