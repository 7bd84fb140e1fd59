"""Connections on pipes, on virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from tests.peers import make_engine

from .edge import Edge


async def test_a_request_that_ends_with_its_server_is_cut_and_not_answered(
    model: Model, tokenizer: Tokenizer
) -> None:
    settings = Settings(slots=1)
    app = App(assemble(settings, "default", make_engine(model, slots=1), tokenizer))
    async with trio.open_nursery() as connections:
        wire = Edge(app, settings, connections).connect(4096)
        await wire.send_all(b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{")
        await wait_all_tasks_blocked()
        connections.cancel_scope.cancel()
    assert await wire.receive_some(4096) == b""


@pytest.mark.parametrize("request_line", ["GET /v1/models", "DELETE /v1/jobs/job_1"])
async def test_peer_that_asks_and_asks_and_never_reads_is_cut(
    model: Model, tokenizer: Tokenizer, request_line: str, autojump_clock: MockClock
) -> None:
    settings = Settings(slots=1, stall_deadline_s=10)
    app = App(assemble(settings, "default", make_engine(model, slots=1), tokenizer))
    async with trio.open_nursery() as connections:
        wire = Edge(app, settings, connections).connect(64)
        began = trio.current_time()
        asked = f"{request_line} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(100):
            await wire.send_all(10_000 * asked)
        assert trio.current_time() - began == 11
