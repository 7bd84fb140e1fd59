"""Two edges and two workers around one Redis, behind nginx as deploy/nginx.conf sets it up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import require_redis
from tests.jobs.fleet import Fleet, kill
from tests.redis_server import redis_server
from tests.wire.raw import HANDSHAKE, TEXT, Raw, frame, post, start
from tests.wire.servers import Server, wait_until

from .nginx import Nginx, require_nginx

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.heavy]

BODY: dict[str, Any] = {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True}
PATH = "/v1/completions"
TRUSTED = "--forwarded-allow-ips=127.0.0.1"
WINDOW = "--job-window=4"


class House:
    """All of it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        (folder / "redis").mkdir()
        redis = stack.enter_context(redis_server(folder / "redis", durable=True))
        fleet = Fleet(folder, redis, stack)
        self.edges = [fleet.start("edge", TRUSTED, WINDOW) for _ in range(2)]
        self.workers = [fleet.start("worker", WINDOW) for _ in range(2)]
        upstreams = [f"{each.host}:{each.port}" for each in self.edges]
        self.nginx = Nginx(folder / "nginx", upstreams)
        stack.callback(self.nginx.stop)

    def peer(self, *, small: bool = False) -> Raw:
        return Raw(self.nginx, small=small)

    def active(self) -> float:
        return sum(each.gauge("active") for each in self.workers)

    def made(self) -> float:
        return sum(each.gauge("decode_steps") for each in self.workers)

    def cancelled(self) -> float:
        name = "penstock_requests_cancelled_total:client"
        return sum(each.metrics().get(name, 0) for each in self.workers)

    def served(self) -> list[float]:
        """Readers that each edge has now."""
        return [each.gauge("job_readers") for each in self.edges]

    def is_idle(self) -> bool:
        return not sum(self.served()) and all(each.is_idle() for each in self.workers)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """For tests that leave it as it was."""
    with built(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[House]:
    with built(tmp_path) as house:
        yield house


@contextmanager
def built(folder: Path) -> Iterator[House]:
    require_nginx()
    require_redis()
    with ExitStack() as stack:
        yield House(folder, stack)


def test_a_stream_arrives_token_by_token(house: House) -> None:
    """Each acknowledged before the next is made: nginx cannot have waited for more."""
    made = house.nginx.ask("POST", "/v1/jobs", BODY | {"max_tokens": 30, "window": 1}).json
    with house.peer() as peer:
        peer.send(f"GET {made['stream_url']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for number in range(1, 31):
            told = peer.read_until(b"\n\n")
            assert f"id: {number}\n".encode() in told
            assert f"id: {number + 1}\n".encode() not in told
            acknowledged = house.nginx.ask("POST", f"/v1/jobs/{made['job_id']}/ack", {"id": number})
            assert acknowledged.status == 200
        assert b"event: job_complete\n" in peer.read_until(b"event: job_complete\n")
    wait_until(house.is_idle, "idle servers")


def test_a_websocket_has_its_credits_through_nginx(house: House) -> None:
    before = house.made()
    with house.peer() as peer:
        peer.send(HANDSHAKE)
        assert b" 101 " in peer.read_until(b"\r\n\r\n")
        peer.send(start(BODY | {"credits": 2, "max_tokens": 40}))
        peer.read_until(b'"seq":2')
        wait_until(lambda: sum(each.gauge("parked") for each in house.workers) == 1, "parking")
        made = house.made() - before
        peer.send(frame(TEXT, json.dumps({"type": "pull", "n": 38}).encode()))
        assert b'"seq":40' in peer.read_until(b'"seq":40')
    wait_until(house.is_idle, "idle servers")
    # Its credits, the window, `lookahead` and 2.
    assert made <= 2 + 4 + 1 + 2


@pytest.mark.parametrize("way", ["close", "reset", "half close"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_frees_its_slot(house: House, way: str, *, stream: bool) -> None:
    """nginx closes its connection to the edge, and logs 499 where nothing had been answered yet."""
    before = house.cancelled()
    with house.peer() as peer:
        peer.send(post(PATH, BODY | {"max_tokens": 900, "stream": stream}))
        if stream:
            peer.read_until(b"data: ")
        wait_until(lambda: house.active() == 1, "decoding")
        leave = {"close": peer.socket.close, "reset": peer.reset, "half close": peer.half_close}
        leave[way]()
        wait_until(house.is_idle, "idle servers")
    assert house.cancelled() == before + 1
    wait_until(lambda: house.nginx.statuses()[-1:] == [200 if stream else 499], "its log line")


def test_streams_are_spread_and_clients_are_named(house: House) -> None:
    """Both edges get streams; one that says it is somebody else is not believed."""
    with ExitStack() as stack:
        for _ in range(4):
            peer = stack.enter_context(house.peer())
            peer.send(post(PATH, BODY | {"max_tokens": 900, "stream": True}))
            peer.read_until(b"data: ")
        assert house.served() == [2, 2]
    wait_until(house.is_idle, "idle servers")
    house.nginx.ask("POST", PATH, BODY | {"max_tokens": 1}, **{"X-Forwarded-For": "192.0.2.7"})
    assert "192.0.2.7" not in "".join(each.log() for each in house.edges)
    assert house.nginx.ask("GET", "/metrics").status == 404


def test_an_edge_that_is_killed_is_left_out(doomed: House) -> None:
    """The next requests go to the other one, none is refused, and a job is read on there."""
    made = doomed.nginx.ask("POST", "/v1/jobs", BODY | {"max_tokens": 60}).json
    kill(doomed.edges[0])
    for _ in range(6):
        answer = doomed.nginx.ask("POST", PATH, BODY | {"max_tokens": 3})
        assert answer.status == 200, answer.body
    told = doomed.nginx.ask("GET", f"/v1/jobs/{made['job_id']}")
    assert told.status == 200, told.body


def test_a_draining_edge_tells_its_streams_through_nginx(doomed: House) -> None:
    with doomed.peer() as peer:
        peer.send(post(PATH, BODY | {"max_tokens": 900, "stream": True}))
        peer.read_until(b"data: ")
        for each in _busy(doomed.edges):
            assert each.stop() == 0
        assert b"shutting down" in peer.read_until(b"shutting down")
    answer = doomed.nginx.ask("POST", PATH, BODY | {"max_tokens": 3})
    assert answer.status == 200


def _busy(edges: list[Server]) -> list[Server]:
    return [each for each in edges if each.gauge("job_readers")]
