"""POST /v1/requests/{x-request-id}/cancel: for clients behind a proxy that hides their leaving."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .asked import LONG_BODY, PROMPT, STORY
from .http2 import Http2Client
from .raw import Raw, post
from .servers import Server
from .test_http2 import PATH, SHORT, STREAMED

TGI = {"inputs": PROMPT, "parameters": {"max_new_tokens": 900, "ignore_eos": True}}
MANY = {"max_tokens": 900, "ignore_eos": True, "stream": True}
STREAMS = [
    (PATH, STREAMED),
    ("/v1/chat/completions", {"messages": STORY, **MANY}),
    ("/v1/messages", {"messages": STORY, **MANY}),
    ("/v1/responses", {"input": PROMPT, **MANY, "max_output_tokens": 900}),
    ("/generate_stream", TGI),
]


def cancel(server: Server, number: str) -> tuple[int, object]:
    answer = server.ask("POST", f"/v1/requests/{number}/cancel")
    return answer.status, answer.json


@pytest.mark.parametrize(("path", "asked"), STREAMS)
def test_a_stream_is_ended_and_told(server: Server, path: str, asked: dict[str, object]) -> None:
    with server.endings() as ended, Raw(server) as peer:
        peer.send(post(path, asked))
        head = peer.read_until(b"data: ").decode()
        found = re.search(r"x-request-id: (\w+)", head)
        assert found, head
        assert cancel(server, found[1]) == (200, {"request_id": found[1], "status": "cancelled"})
        rest = peer.read_until(b"0\r\n\r\n")
        assert b"cancelled by the client" in rest
        assert b"[DONE]" not in rest
        assert cancel(server, found[1])[0] == 404
    assert ended == {"client": 1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate_stream", {"inputs": PROMPT, "parameters": {"max_new_tokens": 900}}),
        ("/v1/messages", {"messages": STORY, "max_tokens": 900, "stream": True}),
        ("/v1/responses", {"input": PROMPT, "max_output_tokens": 900, "stream": True}),
        ("/v1/chat/completions", {"messages": STORY, "max_tokens": 900, "stream": True}),
    ],
)
def test_a_stream_of_any_dialect_is_ended(server: Server, path: str, body: dict[str, Any]) -> None:
    body.get("parameters", body)["ignore_eos"] = True
    with server.endings() as ended, Raw(server) as peer:
        peer.send(post(path, body, "X-Request-Id: mine"))
        peer.read_until(b"data:")
        assert cancel(server, "mine") == (200, {"request_id": "mine", "status": "cancelled"})
        peer.read_until(b"0\r\n\r\n")
    assert ended == {"client": 1}


def test_an_event_source_is_ended(server: Server) -> None:
    path = "/chat/stream?prompt=Tell+me+a+very+long+story&max_tokens=900&temperature=2"
    with server.endings() as ended, Raw(server) as peer:
        peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n".encode())
        peer.read_until(b"data:")
        assert cancel(server, "mine") == (200, {"request_id": "mine", "status": "cancelled"})
        assert b'"code":"cancelled"' in peer.read_until(b"0\r\n\r\n")
    assert ended == {"client": 1}


def test_a_reader_of_a_job_is_sent_to_the_job(server: Server) -> None:
    job = server.ask("POST", "/v1/jobs", {**LONG_BODY, "window": 4}).json["job_id"]
    with Raw(server) as peer:
        path = f"/v1/stream?job_id={job}"
        peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n".encode())
        peer.read_until(b"data:")
        status, told = cancel(server, "mine")
        assert status == 404
        assert "cancel the job" in str(told)
        assert server.ask("POST", f"/v1/jobs/{job}/cancel").status == 200


def test_a_stream_that_is_not_read_is_ended(server: Server) -> None:
    with server.endings() as ended, Http2Client(server, window=500) as client:
        client.stopped.add(1)
        client.ask("POST", PATH, STREAMED)
        client.pump(lambda: len(client.body[1]) == 500)
        server.wait_gauge("parked", 1)
        assert cancel(server, client.head[1]["x-request-id"])[0] == 200
        server.wait_active(0)
        client.wire.increment_flow_control_window(10_000, 1)
        client.flush()
        assert b'"code":"cancelled"' in client.read(1)[1]
    assert ended == {"client": 1}


@pytest.mark.parametrize("number", ["0" * 24, "x", "%00", "\u00e9".encode().hex()])
def test_an_unknown_id_is_named(server: Server, number: str) -> None:
    status, told = cancel(server, number)
    assert status == 404
    assert isinstance(told, dict)
    assert told["error"]["code"] == "request_not_found"


def test_an_answer_that_was_read_is_not_there_any_more(server: Server) -> None:
    with server.endings() as ended:
        number = server.ask("POST", PATH, SHORT).headers["x-request-id"]
        assert cancel(server, number)[0] == 404
    assert ended == {"length": 1}


def test_nobody_else_is_ended(server: Server) -> None:
    with server.endings() as ended, Http2Client(server) as client:
        kept = client.ask("POST", PATH, {**LONG_BODY, "stream": True, "max_tokens": 300})
        gone = client.ask("POST", PATH, STREAMED)
        client.pump(lambda: bool(client.body[gone] and client.body[kept]))
        assert cancel(server, client.head[gone]["x-request-id"])[0] == 200
        assert client.read(kept)[1].endswith(b"data: [DONE]\n\n")
    assert ended == {"client": 1, "length": 1}
