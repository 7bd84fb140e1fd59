"""The server that most of these tests share, and a way to start others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import count

import pytest
from openai import OpenAI

from .servers import RUNNING, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/wire/" in item.path.as_posix():
            item.add_marker(pytest.mark.wire)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its servers logged meanwhile."""
    report = yield
    news = [server.news() for server in RUNNING]
    if report.failed:
        report.sections += [("server log", log) for log in news]
    return report


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded model, with all defaults. Whatever was done to it, it ends well."""
    started = Server(tmp_path_factory.mktemp("server") / "log")
    try:
        yield started
    finally:
        code = started.stop()
    assert code == 0, started.log()
    assert "Traceback" not in started.log()


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A function that starts one more server, with these options."""
    numbers = count(1)
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:

        def start(*options: str) -> Server:
            started = Server(folder / f"log{next(numbers)}", *options)
            stack.callback(started.stop)
            return started

        yield start
