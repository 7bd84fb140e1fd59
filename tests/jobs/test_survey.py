"""What is said of a Redis that would lose jobs, or that is not what was meant."""

from __future__ import annotations

import logging

import pytest
import trio

from penstock.cli.checks import Finding, check_store
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.link import Link
from penstock.jobs.redis.survey import find_faults, read_info, version
from penstock.settings import Settings
from tests.redis_server import RedisServer


def findings(**settings: object) -> list[Finding]:
    return list(check_store(Settings(**settings)))  # type: ignore[arg-type]  # checked there


def test_a_store_that_keeps_everything(durable_redis: RedisServer) -> None:
    (found,) = findings(store=durable_redis.url, role="edge")
    assert found.what.startswith(f"{durable_redis.url} is Redis ")
    assert not found.advice


def test_a_store_that_forgets(redis: RedisServer) -> None:
    redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    _, policy, log = findings(store=redis.url)
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "allkeys-lru" in policy.what
    assert "noeviction" in policy.advice
    assert "appendonly" in log.advice


def test_a_store_that_lets_nobody_in_is_named_with_its_own_words(redis: RedisServer) -> None:
    url = redis.url.replace("redis://", "redis://nobody:wrong@")
    (found,) = findings(store=url)
    assert found.what.startswith(f"{redis.url}: ")
    assert "WRONGPASS" in found.what
    assert "--store" in found.advice
    assert "wrong@" not in found.what


def test_a_store_that_is_not_there() -> None:
    (found,) = findings(store="redis://127.0.0.1:1")
    assert "refused" in found.what
    assert found.advice


@pytest.mark.parametrize("settings", [{"role": "edge"}, {"workers": 2}, {"store": "mysql://h"}])
def test_what_a_server_would_not_start_with(settings: dict[str, object]) -> None:
    (found,) = findings(**settings)
    assert found.fatal


def test_jobs_in_memory_need_no_advice() -> None:
    (found,) = findings()
    assert not found.advice


def test_valkey_is_called_by_its_name() -> None:
    info = read_info(b"# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.1.0\r\n")
    assert version(info) == "Valkey 8.1.0"
    assert list(find_faults(info)) == []


async def test_a_server_warns_of_a_store_that_throws_leases_away(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis.ask("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    link = Link(parse_address(redis.url), "a", lease_s=10)
    with caplog.at_level(logging.WARNING):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            with trio.fail_after(5):
                while "volatile-ttl" not in caplog.text:  # noqa: ASYNC110  # a real server's pace
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
