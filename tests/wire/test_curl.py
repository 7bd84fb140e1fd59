"""What curl shows: statuses, headers, bodies and the lines of a stream."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .asked import LONG_BODY, STORY
from .servers import Answer, Server

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")

CHAT = {"messages": STORY, "max_tokens": 5, "temperature": 0, "ignore_eos": True}
STREAM = "/v1/chat/completions"


def curl(server: Server, path: str, *options: str, body: bytes | None = None) -> Answer:
    """One answer, with its headers."""
    data = [] if body is None else ["--data-binary", "@-"]
    command = ["curl", "-sSN", "--max-time", "20", "-D", "/dev/stderr", *options, *data]
    done = subprocess.run(
        [*command, f"{server.url}{path}"], input=body, capture_output=True, check=True
    )
    # After `Expect: 100-continue` there are two heads; the last one counts.
    head = done.stderr.decode().strip().split("\r\n\r\n")[-1].splitlines()
    pairs = [line.partition(":") for line in head[1:]]
    told = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(head[0].split()[1]), told, done.stdout)


def post(server: Server, path: str, body: object, *options: str) -> Answer:
    return curl(server, path, *options, body=json.dumps(body).encode())


def error_of(answer: Answer) -> dict[str, Any]:
    """The error object, which has all four keys."""
    error: dict[str, Any] = answer.json["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"]
    return error


def events(answer: Answer) -> list[dict[str, str]]:
    """Each event as its fields."""
    blocks = answer.body.decode("ascii").removesuffix("\n\n").split("\n\n")
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def test_stream_headers_and_frames(server: Server) -> None:
    answer = post(server, STREAM, {**CHAT, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    told = events(answer)
    assert [set(event) for event in told] == [{"data"}] * len(told)
    assert told[-1]["data"] == "[DONE]"
    chunks = [json.loads(event["data"]) for event in told[:-1]]
    assert not any("error" in chunk for chunk in chunks)
    assert chunks[0]["id"] == f"chatcmpl-{answer.headers['x-request-id']}"


def test_whole_answer_headers(server: Server) -> None:
    answer = post(server, STREAM, CHAT)
    assert answer.json["id"] == f"chatcmpl-{answer.headers['x-request-id']}"
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/", 404, "not_found"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
        ("GET", STREAM, 405, "method_not_allowed"),
        ("PUT", "/v1/completions", 405, "method_not_allowed"),
        ("POST", "/chat/stream", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("GET", "/chat/stream", 400, "invalid_value"),
        ("GET", "/chat/stream?prompt=", 400, "invalid_value"),
        ("GET", "/chat/stream?prompt=hi&max_tokens=none", 400, "invalid_value"),
        ("GET", "/chat/stream?prompt=%ff", 400, "invalid_value"),
    ],
)
def test_errors_are_json(server: Server, method: str, path: str, status: int, code: str) -> None:
    answer = curl(server, path, "-X", method)
    assert (answer.status, error_of(answer)["code"]) == (status, code)
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b'{"prompt":"\xff"}']
)
def test_bad_json_is_refused(server: Server, body: bytes) -> None:
    answer = curl(server, "/v1/completions", "-X", "POST", body=body)
    assert (answer.status, error_of(answer)["code"]) == (400, "invalid_json")


def test_missing_prompt_is_named(server: Server) -> None:
    answer = post(server, "/v1/completions", {"max_tokens": 5})
    assert (answer.status, error_of(answer)["param"]) == (400, "prompt")


@pytest.mark.parametrize("encoding", ["Content-Length:", "Transfer-Encoding: chunked"])
def test_body_over_the_limit_is_refused(server: Server, encoding: str) -> None:
    option = [] if encoding.endswith(":") else ["-H", encoding]
    answer = curl(server, "/v1/completions", *option, body=b"x" * (5 << 20))
    assert (answer.status, error_of(answer)["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("path", [STREAM, "/v1/completions", "/chat/stream?prompt=hi"])
def test_head_opens_no_generation(server: Server, path: str) -> None:
    with server.endings() as ended:
        answer = curl(server, path, "--head")
    assert (answer.status, ended.total()) == (405, 0)


def test_health_and_readiness(server: Server) -> None:
    health, ready = curl(server, "/health"), curl(server, "/ready")
    assert (health.status, health.body) == (200, b"")
    assert (ready.status, ready.json) == (200, {"status": "ready"})


def test_metrics_are_prometheus_text(server: Server) -> None:
    post(server, STREAM, CHAT)
    answer = curl(server, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert all(family.name.startswith("penstock_") for family in families)
    counters = [family.name for family in families if family.type == "counter"]
    assert [name for name in counters if "cancel" in name] == ["penstock_requests_cancelled"]
    samples = [sample for family in families for sample in family.samples]
    labels = [value for sample in samples for value in sample.labels.values()]
    assert not any("cancel" in label for label in labels)


def test_chat_stream_is_made_for_eventsource(server: Server) -> None:
    path = "/chat/stream?prompt=Tell+me+a+story.&max_tokens=6&temperature=0"
    told = events(curl(server, path))
    assert [event["event"] for event in told] == ["token"] * (len(told) - 1) + ["done"]
    names, numbers = zip(*(event["id"].split(":") for event in told), strict=True)
    assert len(set(names)) == 1
    assert [int(number) for number in numbers] == list(range(1, len(told) + 1))
    assert [event.get("retry") for event in told] == ["1000"] + [None] * (len(told) - 1)
    done = json.loads(told[-1]["data"])
    assert done["finish_reason"] in ("stop", "length")
    text = "".join(json.loads(event["data"])["text"] for event in told[:-1])
    messages = [{"role": "user", "content": "Tell me a story."}]
    whole = post(server, STREAM, {"messages": messages, "max_tokens": 6, "temperature": 0}).json
    assert text == whole["choices"][0]["message"]["content"]
    assert done["usage"] == whole["usage"]


def test_eventsource_that_comes_back_is_told_to_stop(server: Server) -> None:
    with server.endings() as ended:
        answer = curl(server, "/chat/stream?prompt=hi", "-H", "Last-Event-ID: job_1:9")
    assert (answer.status, answer.body, ended.total()) == (204, b"", 0)


def test_curl_that_is_stopped_cancels(server: Server) -> None:
    command = ["curl", "-sSN", "-d", json.dumps(LONG_BODY), f"{server.url}/v1/completions"]
    with server.endings() as ended, subprocess.Popen(command) as process:
        server.wait_active(1)
        process.terminate()
    assert ended == {"disconnect": 1}
