"""The application for other servers: what is wrong is told when their lifespan begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from penstock.asgi import Deployed


async def start_failure() -> str:
    """Why the application cannot start."""
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        told.append(message)

    await Deployed()({"type": "lifespan"}, receive, send)
    (failed,) = told
    assert failed["type"] == "lifespan.startup.failed"
    return str(failed["message"])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KEYS", "none.json", "none.json does not exist"),
        ("SLOTS", "0", "the environment: slots: expected int >= 1"),
        ("MODEL", "none", "none"),
    ],
)
async def test_what_is_wrong_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"PENSTOCK_{name}", value)
    assert told in await start_failure()
