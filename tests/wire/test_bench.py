"""`penstock bench` against real servers: this one, and one of another make."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.loadgen.wire import hidden_bytes

from .servers import Server, wait_until

pytestmark = pytest.mark.heavy

QUICK = ("--text", "--duration-s=1", "--warmup-s=0.2", "--output=16", "--prompt=4")
IGNORE_EOS = '--extra={"ignore_eos":true}'


def bench(url: str, out: Path, *options: str) -> dict[str, Any]:
    """What it writes as JSON."""
    command = [sys.executable, "-W", "error", "-m", "penstock", "bench", url, f"--json={out}"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "This generator:" in done.stdout
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.heavy
def test_readers_of_all_kinds_end_as_they_should(server: Server, tmp_path: Path) -> None:
    kinds = ("--concurrency=4", "--stopped=0.25", "--slow=0.25", "--leaving=0.25")
    page = tmp_path / "page.html"
    with server.endings() as counted:
        found = bench(
            server.url, tmp_path / "a", *QUICK, *kinds, IGNORE_EOS, "--hold-s=0.5",
            "--slow-bytes-s=50000", "--leaves-after=4", f"--html={page}",
        )  # fmt: skip
    endings = found["figures"]["endings"]
    assert endings["leaving"].keys() <= {"left"}
    assert endings["stopped"].keys() <= {"held"}
    assert endings["reader"].keys() | endings["slow"].keys() <= {"done"}
    everything = [row for row in found["requests"] if row["kind"] in ("leaving", "stopped")]
    assert counted["disconnect"] == len(everything) > 2
    assert found["server"] == "penstock"
    assert found["figures"]["output_tokens"]["p50"] == 16
    assert "<svg" in page.read_text()


@pytest.mark.heavy
def test_a_stopped_reader_stops_its_decoder_and_the_bench_sees_it(
    server: Server, tmp_path: Path
) -> None:
    """By CPU time and by metrics: a reader that stops costs less than the whole answer."""
    asked = ("--measure=departures", "--tries=1", f"--process={server.process.pid}", "--text")
    found = bench(server.url, tmp_path / "a", *asked, IGNORE_EOS)
    cost = {(it["way"], it["measured"]): it["cost"]["p50"] for it in found["departures"]}
    assert cost["reader", "metrics"] == 899, "the first of 900 comes from the prompt"
    assert cost["leaving", "metrics"] <= 4
    assert cost["stopped", "metrics"] < 400
    assert cost["leaving", "cpu"] < cost["stopped", "cpu"] < cost["reader", "cpu"]


@pytest.mark.heavy
def test_an_open_loop_and_isolation(server: Server, tmp_path: Path) -> None:
    asked = ("--measure=load", "--measure=isolation", "--rate=20", "--concurrency=2")
    phases = ("--neighbours=2", "--pairs=1", "--settle-s=0.2", "--phase-s=0.5")
    found = bench(server.url, tmp_path / "a", *QUICK, *asked, *phases, IGNORE_EOS)
    assert 8 <= found["figures"]["requests"] <= 40
    assert found["figures"]["failed"] == 0
    assert found["isolation"]["ratio"]["pairs"] == 1
    assert found["isolation"]["neighbours"] == {"stopped": 2}


OTHER = """
import asyncio, json, sys, uvicorn

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (await receive()).get("body", b"{}")
    tokens = json.loads(body or b"{}").get("max_tokens", 0)
    stream = scope["path"].endswith("/chat/completions")
    kind = b"text/event-stream" if stream else b"application/json"
    status = 503 if tokens == 7 else 200
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-type", kind)]})
    async def say(data, more=True):
        await send({"type": "http.response.body", "body": data, "more_body": more})
    if not stream:
        return await say(b'{"data":[{"id":"other"}]}', False)
    for number in range(tokens):
        await asyncio.sleep(0.002)
        choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
        await say(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\\r\\n\\r\\n")
        if tokens == 9:
            raise RuntimeError("halfway")
    choice = {"index": 0, "delta": {}, "finish_reason": "length"}
    await say(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\\r\\n\\r\\n")
    await say(b"data: [DONE]\\r\\n\\r\\n", False)

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off")).run()
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a uvicorn application that answers each request its own way."""
    out = tmp_path_factory.mktemp("other") / "port"
    with out.open("w") as stdout:
        process = subprocess.Popen([sys.executable, "-c", OTHER], stdout=stdout)
    try:
        wait_until(lambda: bool(out.read_text().strip()), "port")
        yield f"http://127.0.0.1:{out.read_text().strip()}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "ending"), [(20, "done"), (7, "refused"), (9, "cut")])
def test_another_server_and_its_failures(
    other: str, tmp_path: Path, tokens: int, ending: str
) -> None:
    """Uvicorn, chunks that end in CRLF, chat, no usage."""
    asked = ("--duration-s=0.6", "--warmup-s=0", f"--output={tokens}", "--concurrency=2")
    found = bench(other, tmp_path / "a", *asked)
    assert found["figures"]["endings"]["reader"].keys() == {ending}
    assert found["model"] == "other"
    assert found["server"] == ""
    if ending == "done":
        assert found["figures"]["output_tokens"]["p50"] == tokens
        assert "does not count tokens" in found["notes"][0]
    else:
        assert found["complaints"][0]["ending"] == ending
        assert found["figures"]["goodput"]["share"] == 0


def test_the_kernel_hides_less_than_a_stopped_readers_answer() -> None:
    """Else `stopped` readers would stop nothing: 900 tokens have about 225 kB."""
    assert 0 < hidden_bytes() < 120_000
