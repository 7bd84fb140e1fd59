"""What an edge does like a whole server (keys, tools, sockets), and what outlives a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import trio

from penstock.access.keys import Key, digest_of, write_keys
from tests.redis_server import RedisServer
from tests.test_grammar_trial import ENDLESS
from tests.wire.servers import Answer, Server, until, wait_until
from tests.wire.sockets import abort, connect

from .fleet import Fleet, end, kill
from .test_redis_served import BODY, last_id, reference, submit
from .test_roles import read

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.heavy]

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CHAT: dict[str, Any] = {
    "model": "default",
    "messages": [{"role": "user", "content": "How is the weather?"}],
    "max_tokens": 200,
    "seed": 3,
    "temperature": 1,
}


@pytest.fixture
def fleet(durable_redis: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, durable_redis, stack)


def ask_as(secret: str, server: Server, method: str, path: str, body: object = None) -> Answer:
    return server.ask(method, path, body, Authorization=f"Bearer {secret}")


def test_keys_mean_the_same_on_every_edge(fleet: Fleet, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    ann = Key(name="ann", digest=digest_of("sk-ann"), tokens_per_day=40)
    write_keys(keys, [ann, Key(name="bob", digest=digest_of("sk-bob"))])
    edges = [fleet.start("edge", f"--keys={keys}") for _ in range(2)]
    worker = fleet.start("worker", f"--keys={keys}")
    asked = BODY | {"max_tokens": 10}
    assert edges[0].ask("POST", "/v1/jobs", asked).status == 401
    assert worker.ask("GET", "/metrics").status == 401
    job_id = ask_as("sk-ann", edges[0], "POST", "/v1/jobs", asked).json["job_id"]
    path = f"/v1/jobs/{job_id}"

    def is_complete() -> bool:
        told = ask_as("sk-ann", edges[1], "GET", path).json
        return bool(told["status"] == "completed")

    wait_until(is_complete, "its end")
    assert ask_as("sk-bob", edges[1], "GET", path).status == 404
    assert ask_as("sk-bob", edges[1], "GET", f"/v1/stream?job_id={job_id}").status == 404
    assert ask_as("sk-bob", edges[1], "GET", "/v1/jobs").json["data"] == []
    assert len(ask_as("sk-ann", edges[1], "GET", "/v1/jobs").json["data"]) == 1
    answers = [ask_as("sk-ann", each, "POST", "/v1/completions", asked) for each in edges * 2]
    assert answers[0].status == 200
    assert (answers[-1].status, answers[-1].json["error"]["code"]) == (429, "quota_exceeded")
    assert ask_as("sk-bob", edges[1], "POST", "/v1/completions", asked).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_tool_is_called_as_on_a_whole_server(fleet: Fleet, *, stream: bool) -> None:
    asked = CHAT | {"tools": [TOOL], "tool_choice": "required", "stream": stream}
    whole = fleet.start("all")
    expected = calls(whole.ask("POST", "/v1/chat/completions", asked), stream=stream)
    end(whole)
    edge = fleet.start("edge")
    fleet.start("worker")
    assert calls(edge.ask("POST", "/v1/chat/completions", asked), stream=stream) == expected
    name, arguments = expected
    assert name == "weather"
    assert json.loads(arguments)["city"] in ("Paris", "Rome")


def calls(answer: Answer, *, stream: bool) -> tuple[str, str]:
    """The name and the arguments of the one call in it."""
    assert answer.status == 200, answer.body
    if not stream:
        [call] = answer.json["choices"][0]["message"]["tool_calls"]
        return call["function"]["name"], call["function"]["arguments"]
    lines = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    told = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    return told[0]["name"], "".join(each.get("arguments", "") for each in told)


async def test_a_socket_that_is_lost_goes_on_on_another_edge(fleet: Fleet) -> None:
    edges = [await trio.to_thread.run_sync(fleet.start, "edge") for _ in range(2)]
    worker = await trio.to_thread.run_sync(fleet.start, "worker")
    expected = reference(edges[0], max_tokens=120)
    async with connect(edges[0]) as peer:
        started = await peer.start(**BODY, max_tokens=120, resumable=True, credits=7)
        pieces = [(await peer.hear())["text"] for _ in range(7)]
        abort(peer.stream)
        await peer.ended.wait()
    async with connect(edges[1]) as peer:
        await peer.tell("resume", job_id=started["job_id"], after=7)
        assert (await peer.hear())["type"] == "started"
        while (message := await peer.hear())["type"] == "token":
            pieces.append(message["text"])
        assert message["type"] == "complete"
        assert "".join(pieces) == expected
        await peer.start(**BODY, max_tokens=400)
        await peer.hear_tokens(3)
        await peer.tell("cancel")
        assert (await peer.hear_terminal())["type"] == "cancelled"
    await until(worker.is_idle, "idle worker")


async def test_flow_on_an_edge_tells_of_what_is_read_there(fleet: Fleet) -> None:
    start = partial(fleet.start, "edge", "--job-window=6")
    edges = [await trio.to_thread.run_sync(start) for _ in range(2)]
    job_id = submit(edges[0], max_tokens=60)

    def seen(name: str, *, at: int = 0) -> Any:  # noqa: ANN401
        streams = edges[at].ask("GET", f"/v1/flow?id={name}").json["streams"]
        return streams.get(name, {})

    async with connect(edges[0]) as reader, connect(edges[0]) as peer:
        await reader.tell("resume", job_id=job_id, credits=0)
        await until(lambda: seen(job_id).get("state") == "queued", "a place in line")
        await trio.to_thread.run_sync(fleet.start, "worker")
        plain = (await peer.start(**BODY, credits=2))["job_id"]
        await peer.hear_tokens(2)
        expected = {"state": "decode", "prompt_tokens": 5, "computed": 9, "delivered": 2}
        await until(lambda: seen(plain) == expected, f"{expected}")
        expected = {"state": "decode", "prompt_tokens": None, "computed": 7, "delivered": 0}
        await until(lambda: seen(job_id) == expected, f"{expected}")
        assert seen(job_id, at=1) == {}
        await peer.tell("cancel")
        assert (await peer.hear_terminal())["type"] == "cancelled"
    await until(lambda: seen(job_id) == seen(plain) == {}, "nobody")


def test_jobs_outlive_the_process_that_made_them(fleet: Fleet) -> None:
    first = fleet.start("all")
    expected = reference(first, max_tokens=200)
    asked = BODY | {"max_tokens": 200}
    told = {"Idempotency-Key": "mine"}
    done = first.ask("POST", "/v1/jobs", asked, **told).json["job_id"]
    assert read(first, done) == expected
    running = submit(first, max_tokens=200, window=9)
    wait_until(lambda: last_id(first, running) == 9, "its window")
    kill(first)
    second = fleet.start("all")
    assert read(second, done) == expected
    again = second.ask("POST", "/v1/jobs", asked, **told)
    assert (again.status, again.json["job_id"]) == (200, done)
    assert second.ask("POST", f"/v1/jobs/{running}/ack", {"id": 9}).status == 200
    wait_until(lambda: last_id(second, running) == 18, "its window", patience_s=30)
    listed = second.ask("GET", "/v1/jobs").json["data"]
    assert [each["job_id"] for each in listed] == [running, done]


def test_a_schema_that_takes_long_holds_up_nobody_else(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    fleet.start("worker", "--grammar-compile-s=60")
    connection = HTTPConnection(edge.host, edge.port)
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": ENDLESS}}
    connection.request("POST", "/v1/chat/completions", json.dumps(CHAT | {"response_format": form}))
    leases = ("ZCARD", "{penstock}:leases:default")
    wait_until(lambda: fleet.redis.ask(*leases) == b":1\r\n", "a worker for it")
    assert reference(edge, max_tokens=4)
    assert fleet.redis.ask(*leases) == b":1\r\n"
    connection.close()
