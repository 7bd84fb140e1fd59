"""Memory and promptness with many streams that nobody reads: `python bench/stalled.py`.

WebSockets with one credit each, on 16 slots: every one gets its token and then waits for ever.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.wire.raw import HANDSHAKE, Raw, start
from tests.wire.servers import Server, wait_until

BODY: dict[str, Any] = {"prompt": "Once", "max_tokens": 500, "ignore_eos": True}


def rss_kib(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def connect(server: Server) -> Raw:
    peer = Raw(server)
    peer.socket.settimeout(120)
    peer.send(HANDSHAKE)
    peer.read_until(b"\r\n\r\n")
    return peer


def first_token_ms(server: Server) -> float:
    with connect(server) as peer:
        started = time.perf_counter()
        peer.send(start({**BODY, "credits": 1}))
        peer.read_until(b'"token"')
        return 1000 * (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            Path(folder) / "log",
            "--stall-deadline-s=600",
            "--max-streams=8000",
            "--queue=8000",
            "--parked-kv-bytes=0",
            "--ping-interval-s=600",
            "--park-grace-s=0.01",
            "--drain-s=0",
        )
        try:
            measure(server, options.streams, options.seconds)
        finally:
            server.stop()


def measure(server: Server, streams: int, seconds: int) -> None:
    print(f"idle server: first token {min(first_token_ms(server) for _ in range(5)):.1f} ms")
    before = rss_kib(server)
    idle = [connect(server) for _ in range(streams)]
    print(f"{streams} idle WebSockets: {(rss_kib(server) - before) / streams:.1f} KiB each")
    for peer in idle:
        peer.send(start({**BODY, "credits": 1}))
    for peer in idle:
        peer.read_until(b'"token"')
    wait_until(
        lambda: server.gauge("parked") + server.gauge("evicted") == streams,
        "all streams stalled",
        patience_s=60,
    )
    held = rss_kib(server)
    print(f"{streams} stalled streams: {(held - before) / streams:.1f} KiB each")
    time.sleep(seconds)
    print(f"after {seconds} s: RSS {held / 1024:.1f} -> {rss_kib(server) / 1024:.1f} MiB")
    print(f"a new client: first token {first_token_ms(server):.1f} ms")
    started = time.perf_counter()
    for peer in idle:
        peer.reset()
    wait_until(lambda: server.gauge("live") == 0, "free places", patience_s=30)
    print(f"{streams} disconnects: all released after {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
