"""Edges accept and stream, workers decode, and any of them may die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.wire.servers import Server, run_serve, wait_until

from .fleet import Fleet, end, kill
from .test_redis_served import BODY, last_id, numbers_and_text, submit

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.heavy]


@pytest.fixture
def fleet(durable_redis: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, durable_redis, stack)


def ask(server: Server, **changes: object) -> tuple[HTTPConnection, HTTPResponse]:
    connection = HTTPConnection(server.host, server.port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps(BODY | changes).encode())
    return connection, connection.getresponse()


def ask_later(
    server: Server, **changes: object
) -> tuple[HTTPConnection, Callable[[], HTTPResponse]]:
    """Has asked; call the second for the response."""
    connection = HTTPConnection(server.host, server.port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps(BODY | changes).encode())
    return connection, connection.getresponse


def reference(server: Server, **changes: object) -> str:
    answer = server.ask("POST", "/v1/completions", BODY | changes)
    assert answer.status == 200, answer.body
    text: str = answer.json["choices"][0]["text"]
    return text


def read(server: Server, job_id: str) -> str:
    connection = HTTPConnection(server.host, server.port, timeout=60)
    connection.request("GET", f"/v1/stream?job_id={job_id}")
    numbers, text = numbers_and_text(connection.getresponse().read())
    connection.close()
    assert numbers == list(range(1, len(numbers) + 1))
    return text


def test_an_edge_answers_as_a_whole_server_does(fleet: Fleet, tmp_path: Path) -> None:
    whole = fleet.start("all")
    asked = {"max_tokens": 40, "seed": 7, "temperature": 1, "n": 2, "logprobs": 1}
    expected = whole.ask("POST", "/v1/completions", BODY | asked).json
    bad = whole.ask("POST", "/v1/completions", BODY | {"max_tokens": 100_000})
    end(whole)
    edge = fleet.start("edge")
    fleet.start("worker")
    got = edge.ask("POST", "/v1/completions", BODY | asked).json
    assert got["choices"] == expected["choices"]
    assert got["usage"] == expected["usage"]
    refused = edge.ask("POST", "/v1/completions", BODY | {"max_tokens": 100_000})
    assert (refused.status, refused.json) == (bad.status, bad.json)
    assert edge.ask("GET", "/v1/models").json == whole_models(edge)
    job_id = submit(edge, max_tokens=30)
    assert read(edge, job_id) == reference(edge, max_tokens=30)


def test_an_edge_speaks_every_dialect(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    fleet.start("worker")
    messages = [{"role": "user", "content": "hi"}]
    chat = {"messages": messages, "max_tokens": 8, "temperature": 0, "model": "default"}
    counted = edge.ask("POST", "/v1/messages/count_tokens", chat).json["input_tokens"]
    told = edge.ask("POST", "/v1/messages", chat)
    assert (told.status, told.json["usage"]["input_tokens"]) == (200, counted)
    tgi = edge.ask("POST", "/generate", {"inputs": "a", "parameters": {"max_new_tokens": 4}})
    assert (tgi.status, bool(tgi.json["generated_text"])) == (200, True)
    form = {"type": "regex", "value": "[ab]{3}"}
    grammar = {"max_new_tokens": 9, "grammar": form}
    bound = edge.ask("POST", "/generate", {"inputs": "a", "parameters": grammar})
    assert (bound.status, set(bound.json["generated_text"]) <= {"a", "b"}) == (200, True)
    ids = edge.ask("POST", "/tokenize", {"prompt": "a dog"}).json["tokens"]
    assert "a dog" in edge.ask("POST", "/detokenize", {"tokens": ids}).json["prompt"]
    for path in ("/info", "/v1/health", "/v1/flow", "/metrics"):
        assert edge.ask("GET", path).status == 200
    assert edge.ask("GET", "/v1/usage").json["limits"] == []
    made = edge.ask("POST", "/v1/responses", {"input": "hi", "max_output_tokens": 4}).json
    other = fleet.start("edge")
    again = other.ask("GET", f"/v1/responses/{made['id']}")
    assert (again.status, again.json["output"]) == (200, made["output"])


def whole_models(server: Server) -> object:
    return {"object": "list", "data": [server.ask("GET", "/v1/models/default").json]}


def test_a_worker_that_is_killed_is_replaced_and_nobody_notices(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    first = fleet.start("worker")
    expected = reference(edge, max_tokens=300)
    jobs = [submit(edge, max_tokens=300) for _ in range(4)]
    wait_until(lambda: all(last_id(edge, each) > 10 for each in jobs), "some events")
    kill(first)
    fleet.start("worker")
    for job_id in jobs:
        assert read(edge, job_id) == expected
    assert reference(edge, max_tokens=300) == expected


def test_a_worker_that_slept_writes_nothing_when_it_wakes(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    sleeper = fleet.start("worker")
    expected = reference(edge, max_tokens=300)
    job_id = submit(edge, max_tokens=300)
    wait_until(lambda: last_id(edge, job_id) > 10, "some events")
    sleeper.signal(signal.SIGSTOP)
    fleet.start("worker")
    assert read(edge, job_id) == expected
    before = edge.ask("GET", f"/v1/jobs/{job_id}").json
    sleeper.signal(signal.SIGCONT)
    wait_until(lambda: "another process goes on" in sleeper.log(), "its insight")
    assert edge.ask("GET", f"/v1/jobs/{job_id}").json == before
    assert sleeper.ask("GET", "/ready").status == 200


def test_what_a_stopped_worker_had_is_gone_on_with_at_once(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    first = fleet.start("worker")
    expected = reference(edge, max_tokens=300)
    job_id = submit(edge, max_tokens=300)
    wait_until(lambda: last_id(edge, job_id) > 10, "some events")
    fleet.start("worker")
    assert first.stop() == 0
    assert read(edge, job_id) == expected


def test_a_reader_that_leaves_an_edge_ends_its_generation(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    worker = fleet.start("worker")
    connection, response = ask(edge, max_tokens=400, stream=True)
    response.read(200)
    wait_until(lambda: worker.gauge("active") == 1, "decoding")
    connection.close()
    response.close()
    wait_until(worker.is_idle, "idle worker")
    assert worker.metrics()["penstock_requests_cancelled_total:client"] == 1


def test_what_a_stopped_edge_was_streaming_ends_and_is_not_moved(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    worker = fleet.start("worker")
    connection, response = ask(edge, max_tokens=400, stream=True)
    response.read(200)
    wait_until(lambda: worker.gauge("active") == 1, "decoding")
    assert edge.stop() == 0
    assert b'"code":"unavailable"' in response.read()
    connection.close()
    ended = "penstock_requests_failed_total:shutdown"
    wait_until(lambda: worker.metrics()[ended] == 1, "its end")
    assert "penstock_requests_failed_total:moved" not in worker.metrics()
    assert worker.is_idle()


def test_what_a_killed_edge_leaves_behind_ends_by_itself(fleet: Fleet) -> None:
    edge = fleet.start("edge", "--job-window=8")
    worker = fleet.start("worker")
    connection, response = ask(edge, max_tokens=400, stream=True)
    wait_until(lambda: worker.gauge("active") == 1, "decoding")
    kill(edge)
    wait_until(worker.is_idle, "idle worker", patience_s=30)
    connection.close()
    response.close()


def test_a_cancel_reaches_the_worker_and_the_line(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    waiting = submit(edge)
    told = edge.ask("POST", f"/v1/jobs/{waiting}/cancel").json
    assert told["status"] == "cancelled"
    worker = fleet.start("worker")
    running = submit(edge, max_tokens=400, window=5)
    wait_until(lambda: last_id(edge, running) == 5, "its window")
    assert edge.ask("POST", f"/v1/jobs/{running}/cancel").json["status"] == "cancelled"
    wait_until(worker.is_idle, "idle worker")


def test_a_worker_answers_nobody_and_roles_need_a_shared_store(fleet: Fleet) -> None:
    worker = fleet.start("worker")
    assert worker.ask("POST", "/v1/completions", BODY).status == 404
    assert worker.ask("GET", "/v1/jobs").status == 404
    assert worker.ask("GET", "/health").status == 200
    for option in ("--role=edge", "--workers=2"):
        code, told = run_serve(option, "--port=0")
        assert (code, "set --store" in told) == (1, True)


def test_an_edge_says_that_redis_is_full_and_what_runs_goes_on(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    fleet.start("worker")
    expected = reference(edge, max_tokens=200)
    job_id = submit(edge, max_tokens=200)
    fleet.redis.ask("CONFIG", "SET", "maxmemory", "1")
    wait_until(lambda: edge.gauge("store_full") == 1, "the edge to know")
    assert edge.ask("GET", "/ready").status == 200
    refused = edge.ask("POST", "/v1/completions", BODY)
    assert refused.status == 429
    assert refused.json["error"]["message"].startswith("the store of jobs is full")
    assert read(edge, job_id) == expected
    fleet.redis.ask("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: edge.gauge("store_full") == 0, "room")
    assert reference(edge, max_tokens=200) == expected


def test_answers_that_wait_for_several_slots_come_without_a_queue(fleet: Fleet) -> None:
    edge = fleet.start("edge")
    worker = fleet.start("worker", "--slots=2", "--queue=0")
    asked = {"max_tokens": 20, "seed": 7, "temperature": 1, "n": 2}
    held = submit(edge, max_tokens=400, window=5)
    wait_until(lambda: last_id(edge, held) == 5, "its window")
    connection, response = ask_later(edge, **asked)
    in_line = ("LLEN", "{penstock}:queue:default")
    wait_until(lambda: fleet.redis.ask(*in_line) == b":1\r\n", "its place in line")
    assert worker.gauge("active") == 1
    edge.ask("POST", f"/v1/jobs/{held}/cancel")
    told = json.loads(response().read())
    connection.close()
    assert told["choices"] == edge.ask("POST", "/v1/completions", BODY | asked).json["choices"]


def test_several_processes_share_a_port_and_their_jobs(fleet: Fleet) -> None:
    server = fleet.start("all", "--workers=3")
    wait_until(lambda: server.log().count("the store is there") == 3, "three processes")
    expected = reference(server, max_tokens=60)
    jobs = [submit(server, max_tokens=60) for _ in range(6)]
    for job_id in jobs * 3:
        assert read(server, job_id) == expected
    assert server.stop() == 0
    with pytest.raises(OSError, match="refused"):
        server.ask("GET", "/health")


def test_one_of_several_processes_that_is_killed_is_replaced(fleet: Fleet) -> None:
    """Soon after the start, and in the middle of jobs, which go on in the other one."""
    server = fleet.start("all", "--workers=2")
    wait_until(lambda: server.log().count("the store is there") == 2, "two processes")
    expected = reference(server, max_tokens=60)
    jobs = [submit(server, max_tokens=60) for _ in range(4)]
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    before = [int(each) for each in children.read_text().split()]
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: server.log().count("the store is there") == 3, "another process")
    for job_id in jobs:
        assert read(server, job_id) == expected
    assert "a process has ended" in server.log()
    assert before[1] in map(int, children.read_text().split())
    assert server.stop() == 0
