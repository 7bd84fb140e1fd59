"""EventSource as others wrote it: Chromium's, and the npm package for Node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import trio
from trio_websocket import open_websocket_url

from .servers import PATIENCE_S

PAGE = (Path(__file__).parent / "page.js").read_text()
TOOLS = Path(__file__).parents[2] / ".tools"
NODE_PAGE = f"const {{ EventSource }} = require('{TOOLS}/node_modules/eventsource');\n{PAGE}"
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")


class Browser(Protocol):
    async def follow(self, origin: str, paths: Sequence[str]) -> list[dict[str, Any]]:
        """What one page on `origin` got from each path, once it was told to stop."""


class Node:
    """The eventsource package."""

    async def follow(self, origin: str, paths: Sequence[str]) -> list[dict[str, Any]]:
        urls = json.dumps([origin + path for path in paths])
        script = f"{NODE_PAGE}\nfollowAll({urls}).then(console.log);"
        with trio.fail_after(3 * PATIENCE_S):
            done = await trio.run_process(["node", "-e", script], capture_stdout=True)
        seen: list[dict[str, Any]] = json.loads(done.stdout)
        return seen


class Chromium:
    """Driven by its DevTools protocol."""

    def __init__(self, socket: Any) -> None:  # noqa: ANN401  # untyped
        self._socket = socket
        self._numbers = count(1)

    async def follow(self, origin: str, paths: Sequence[str]) -> list[dict[str, Any]]:
        page = (await self._call("Target.createTarget", url=f"{origin}/health"))["targetId"]
        attached = await self._call("Target.attachToTarget", targetId=page, flatten=True)
        session = attached["sessionId"]
        await self._call("Page.enable", session)
        await self._call("Page.navigate", session, url=f"{origin}/v1/models")
        await self._event("Page.loadEventFired")
        script = f"{PAGE}\nfollowAll({json.dumps(list(paths))})"
        done = await self._call(
            "Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done
        seen: list[dict[str, Any]] = json.loads(done["result"]["value"])
        return seen

    async def _call(self, method: str, session: str | None = None, **given: object) -> Any:  # noqa: ANN401
        number = next(self._numbers)
        told = {"id": number, "method": method, "params": given}
        await self._socket.send_message(
            json.dumps(told | ({"sessionId": session} if session else {}))
        )
        while (answer := await self._hear()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    async def _event(self, method: str) -> None:
        while (await self._hear()).get("method") != method:
            pass

    async def _hear(self) -> dict[str, Any]:
        with trio.fail_after(3 * PATIENCE_S):
            told: dict[str, Any] = json.loads(await self._socket.get_message())
            return told


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Chromium]:
    """A browser with a profile of its own."""
    command = ["chromium", *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    process = await trio.lowlevel.open_process(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        async with open_websocket_url(await _devtools(process)) as socket:
            yield Chromium(socket)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stderr is not None
            await process.stderr.aclose()


async def _devtools(process: trio.Process) -> str:
    assert process.stderr is not None
    said = b""
    with trio.fail_after(3 * PATIENCE_S):
        while not (found := re.search(rb"DevTools listening on (ws://\S+)\s", said)):
            piece = await process.stderr.receive_some()
            assert piece, said.decode()
            said += piece
    return found[1].decode()


def missing() -> str | None:
    """What is not installed; `just test` installs it."""
    if shutil.which("chromium") is None:
        return "chromium"
    if shutil.which("node") is None or not (TOOLS / "node_modules" / "eventsource").is_dir():
        return "the npm package eventsource, in .tools"
    return None
