"""Only under `just test-clients`: these tests install other people's programs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.wire.servers import Server

collect_ignore_glob = [] if os.environ.get("TEST_CLIENTS") else ["test_*"]


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
