"""A whole server on a Redis, which is killed and comes back."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.wire.servers import Server, run_serve, wait_until

BODY = {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True}

pytestmark = [pytest.mark.heavy, pytest.mark.wire, pytest.mark.slow]


def submit(server: Server, **changes: object) -> str:
    answer = server.ask("POST", "/v1/jobs", BODY | changes)
    assert answer.status == 202, answer.body
    job_id: str = answer.json["job_id"]
    return job_id


def last_id(server: Server, job_id: str) -> int:
    told = server.ask("GET", f"/v1/jobs/{job_id}").json
    return int(told.get("last_event_id", -1))


def reference(server: Server, **changes: object) -> str:
    answer = server.ask("POST", "/v1/completions", BODY | changes)
    text: str = answer.json["choices"][0]["text"]
    return text


def numbers_and_text(stream: bytes) -> tuple[list[int], str]:
    """Of all events of a job; the last has no text."""
    told = [block.split(b"\n") for block in stream.split(b"\n\n") if b"id: " in block]
    fields = [dict(line.split(b": ", 1) for line in block if b": " in line) for block in told]
    texts = [json.loads(each[b"data"]).get("text", "") for each in fields]
    return [int(each[b"id"]) for each in fields], "".join(texts)


def test_a_job_goes_on_where_it_was_when_redis_comes_back(
    durable_redis: RedisServer, tmp_path: Path
) -> None:
    server = Server(tmp_path / "log", f"--store={durable_redis.url}", "--slots=4")
    try:
        wait_until(lambda: server.ask("GET", "/v1/jobs").status == 200, "the store")
        job_id = submit(server, max_tokens=400)
        wait_until(lambda: last_id(server, job_id) > 20, "some events")
        connection = HTTPConnection(server.host, server.port, timeout=30)
        connection.request("GET", f"/v1/stream?job_id={job_id}")
        response = connection.getresponse()
        durable_redis.kill()
        wait_until(lambda: "the store is away" in server.log(), "its absence")
        refused = server.ask("POST", "/v1/jobs", BODY)
        assert (refused.status, refused.json["error"]["code"]) == (429, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert server.ask("GET", "/chat/stream?prompt=Hi").status == 429
        durable_redis.start()
        numbers, text = numbers_and_text(response.read())
        connection.close()
        assert numbers == list(range(1, len(numbers) + 1))
        assert text == reference(server, max_tokens=400)
        assert last_id(server, job_id) == numbers[-1]
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("store", ["mysql://h", "redis://h/x"])
def test_a_store_that_cannot_be_is_refused_at_the_start(store: str) -> None:
    code, told = run_serve(f"--store={store}")
    assert code == 1
    assert "store: must be memory, redis://" in told
