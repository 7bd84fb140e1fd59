"""A Redis for all tests of this room, and one that a test may kill."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.store import RedisStore
from tests.redis_server import RedisServer, redis_server

from .stores import BOUNDS, opened


def require_redis() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed; `just test` installs it where it may")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    require_redis()
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """Empty."""
    shared_redis.ask("FLUSHALL")
    return shared_redis


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(parse_address(redis.url), BOUNDS)
    async with opened(store):
        yield store


@pytest.fixture
async def other(redis: RedisServer) -> AsyncIterator[RedisStore]:
    """Another process, which has not seen anything before."""
    store = RedisStore(parse_address(redis.url), BOUNDS)
    async with opened(store):
        yield store


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that keeps what it was told when it is killed."""
    require_redis()
    with redis_server(tmp_path, durable=True) as server:
        yield server
