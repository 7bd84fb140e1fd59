"""The server process that tests of the client share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.servers import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("client") / "log")
    try:
        yield started
    finally:
        code = started.stop()
    assert code == 0, started.log()
