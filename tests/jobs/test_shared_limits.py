"""What a key may use, over edges and workers that share a Redis, whichever of them dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from penstock.access.keys import write_keys
from tests.redis_server import RedisServer
from tests.web.doors import ANN, make_key
from tests.wire.servers import Server, wait_until

from .fleet import Fleet, kill
from .test_redis_served import BODY

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.heavy]

SHOWN = {"authorization": f"Bearer {ANN}"}
PROMPT_TOKENS = 5


@pytest.fixture
def fleet(durable_redis: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, durable_redis, stack)


def start_edge(fleet: Fleet, folder: Path, **allowed: int) -> Server:
    keys = folder / "keys.json"
    write_keys(keys, [make_key(ANN, **allowed)])
    return fleet.start("edge", f"--keys={keys}")


def submit(edge: Server, max_tokens: int, **more: int) -> str:
    asked = BODY | {"max_tokens": max_tokens} | more
    answer = edge.ask("POST", "/v1/jobs", asked, **SHOWN)
    assert answer.status == 202, answer.body
    job_id: str = answer.json["job_id"]
    return job_id


def look(edge: Server, job_id: str) -> dict[str, Any]:
    told: dict[str, Any] = edge.ask("GET", f"/v1/jobs/{job_id}", **SHOWN).json
    return told


def used(edge: Server) -> int:
    (limit,) = edge.ask("GET", "/v1/usage", **SHOWN).json["limits"]
    amount: int = limit["used"]
    return amount


def ended(edge: Server, job_id: str) -> bool:
    return look(edge, job_id)["status"] in {"completed", "failed", "cancelled"}


def test_a_day_is_counted_once_whoever_decodes_and_dies(fleet: Fleet, tmp_path: Path) -> None:
    edge = start_edge(fleet, tmp_path, tokens_per_day=800)
    other = start_edge(fleet, tmp_path, tokens_per_day=800)
    first = fleet.start("worker")
    jobs = [submit(edge, 300), submit(other, 300)]
    wait_until(lambda: all(look(edge, each).get("last_event_id", 0) > 10 for each in jobs), "some")
    fleet.start("worker")
    kill(first)
    wait_until(lambda: all(ended(edge, each) for each in jobs), "their ends", patience_s=30)
    assert [look(edge, each)["status"] for each in jobs] == ["completed"] * 2
    had = 2 * (PROMPT_TOKENS + 300)
    wait_until(lambda: used(other) == used(edge) == had, "the count of both")
    last = submit(other, 300)
    wait_until(lambda: ended(edge, last), "its end")
    assert look(edge, last)["error"]["code"] == "quota_exceeded"
    wait_until(lambda: used(edge) == 800, "the day's last token")
    refused = edge.ask("POST", "/v1/completions", BODY, **SHOWN)
    assert (refused.status, refused.json["error"]["code"]) == (429, "quota_exceeded")


def test_a_key_has_so_many_streams_whichever_worker_has_them(fleet: Fleet, tmp_path: Path) -> None:
    edge = start_edge(fleet, tmp_path, streams=1)
    fleet.start("worker", "--slots=1")
    # Its window keeps it from ending.
    running = submit(edge, 400, window=5)
    wait_until(lambda: look(edge, running).get("last_event_id") == 5, "its window")
    second = fleet.start("worker", "--slots=1")
    assert edge.ask("GET", "/v1/usage", **SHOWN).json["streams"] == {"limit": 1, "open": 1}
    short = BODY | {"max_tokens": 5}
    refused = edge.ask("POST", "/v1/completions", short, **SHOWN)
    assert (refused.status, refused.json["error"]["code"]) == (429, "overloaded")
    assert "too many requests running" in refused.json["error"]["message"]
    assert second.is_idle()
    edge.ask("POST", f"/v1/jobs/{running}/cancel", **SHOWN)
    wait_until(lambda: edge.ask("POST", "/v1/completions", short, **SHOWN).status == 200, "a place")
