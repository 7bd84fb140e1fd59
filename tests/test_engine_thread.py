"""The one thread that models run on, before Trio runs and while it does."""

from __future__ import annotations

from threading import get_ident

import pytest

from penstock.engine_thread import EngineThread


async def test_what_is_prepared_runs_where_all_else_will_run() -> None:
    thread = EngineThread()
    prepared = thread.prepare(get_ident)
    with thread:
        assert await thread.run(get_ident) == prepared != get_ident()
    assert thread.busy_s >= 0


def test_what_preparing_raises_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no such kernel")

    thread = EngineThread()
    with pytest.raises(ValueError, match="no such kernel"):
        thread.prepare(fail)
    assert thread.prepare(lambda: 1) == 1
