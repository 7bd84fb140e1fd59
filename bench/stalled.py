"""Memory and promptness with many streams that nobody reads: `python bench/stalled.py`.

WebSockets with one credit each, on 16 slots: every one gets its token and then waits for ever. With
`--sse`, what a server-sent stream takes: one that waits for its first token, and one that is not
read any more.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.wire.raw import HANDSHAKE, Raw, post, start
from tests.wire.servers import Server, wait_until

WARM = 100
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
    parser.add_argument("--sse", action="store_true", help="HTTP/1.1 instead of WebSockets")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if options.sse:
        # Who is parked keeps its slot, so that the others wait for their first token.
        with serve("--park-grace-s=6000", "--send-buffer-bytes=4096") as server:
            measure_sse(server, "waiting for its first token", options.streams)
        with serve("--send-buffer-bytes=4096") as server:
            measure_sse(server, "stalled, with its generation", options.streams)
        return
    with serve() as server:
        measure(server, options.streams, options.seconds)


@contextmanager
def serve(*options: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            Path(folder) / "log",
            "--stall-deadline-s=600",
            "--max-streams=8000",
            "--queue=8000",
            "--parked-kv-bytes=0",
            "--ping-interval-s=600",
            "--heartbeat-s=600",
            "--park-grace-s=0.01",
            "--drain-s=0",
            *options,
        )
        try:
            yield server
        finally:
            server.stop()


def measure_sse(server: Server, what: str, streams: int) -> None:
    peers: list[Raw] = []
    # The first ones fill the slots, and the model's batches grow with them.
    before = open_sse(server, peers, what, WARM)
    held = open_sse(server, peers, what, streams)
    print(f"{streams} streams {what}: {(held - before) / streams:.1f} KiB each")
    for peer in peers:
        peer.reset()


def open_sse(server: Server, peers: list[Raw], what: str, more: int) -> int:
    """RSS once all are there."""
    for _ in range(more):
        peers.append(Raw(server, small=True))
        peers[-1].send(post("/v1/completions", {**BODY, "max_tokens": 900, "stream": True}))
    gauge = "waiting" if "waiting" in what else "evicted"
    wait_until(
        lambda: server.gauge("parked") + server.gauge(gauge) == len(peers), what, patience_s=180
    )
    return rss_kib(server)


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
