"""How much nginx, with deploy/nginx.conf, holds for a reader that never reads.

    python bench/held_nginx.py

Events are made large with log probabilities, since nine hundred small ones fit into the buffers.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.deploy.nginx import LISTEN, Nginx, free_port
from tests.wire.raw import HANDSHAKE, Raw, post, start
from tests.wire.servers import Server

TOKENS = 900
PATH = "/v1/chat/completions"
SAMPLING = {"max_tokens": TOKENS, "ignore_eos": True}
CHAT: dict[str, Any] = {
    **SAMPLING,
    "messages": [{"role": "user", "content": "Once"}],
    "logprobs": True,
    "top_logprobs": 20,
    "stream": True,
}
STILL = 10
SMALL = "--send-buffer-bytes=4096"
SETTINGS: dict[str, tuple[list[str], str | None, bool]] = {
    "no nginx": ([], None, False),
    "nginx without `sndbuf`": ([], "listen 8080;", False),
    "nginx as it is in deploy/": ([], LISTEN, False),
    "and `--send-buffer-bytes=4096`": ([SMALL], LISTEN, False),
    "and the edge on a UNIX socket": ([SMALL], LISTEN, True),
}
"""Options of the server, nginx's listen, and whether they speak over a UNIX socket."""


@contextmanager
def house(options: list[str], listen: str | None, *, unix: bool) -> Iterator[tuple[Server, int]]:
    """What clients connect to, and the port for metrics."""
    with tempfile.TemporaryDirectory() as name:
        folder, metrics = Path(name), free_port()
        path = folder / "edge.sock"
        told = [*options, "--max-len=1024", f"--metrics-port={metrics}"]
        server = Server(folder / "log", *told, *([f"--uds={path}"] if unix else []))
        try:
            if listen is None:
                yield server, metrics
                return
            if unix:
                # nginx's workers are somebody else where it was started by root.
                folder.chmod(0o755)
                path.chmod(0o777)
            upstream = f"unix:{path}" if unix else f"{server.host}:{server.port}"
            nginx = Nginx(folder / "nginx", [upstream], listen=listen)
            try:
                yield nginx, metrics
            finally:
                nginx.stop()
        finally:
            server.stop()


def sse(peer: Raw) -> None:
    peer.send(post(PATH, CHAT))


def socket(credit: int | None) -> Callable[[Raw], None]:
    def ask(peer: Raw) -> None:
        peer.send(HANDSHAKE)
        peer.read_until(b"\r\n\r\n")
        peer.send(start({"prompt": "Once", "credits": credit, **SAMPLING}))

    return ask


def steps(port: int) -> float:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r"^penstock_decode_steps_total ([\d.e+]+)$", page, re.MULTILINE)
    assert found
    return float(found[1])


def held(ask: Callable[[Raw], None], front: Server, metrics: int, *, small: bool) -> int:
    """Tokens made until nothing moves any more."""
    before = steps(metrics)
    with Raw(front, small=small) as peer:
        ask(peer)
        made, still = -1.0, 0
        while still < STILL:
            time.sleep(0.1)
            now = steps(metrics) - before
            still = still + 1 if now == made and now else 0
            made = now
    return int(made) + 1


def held_by_sse(front: Server, metrics: int, *, small: bool) -> str:
    body = front.ask("POST", PATH, CHAT | {"max_tokens": 50}).body
    tokens = held(sse, front, metrics, small=small)
    more = "over " if tokens >= TOKENS else ""
    return f"{more}{tokens * len(body) / body.count(b'data: {') / 1024:.0f} KiB"


def main() -> None:
    print("Clients with default buffers / with SO_RCVBUF 4096; of WebSockets in tokens\n")
    print("| between | SSE | WebSocket, 1 credit | 64 credits |")
    print("|---|---|---|---|")
    for setting, (options, listen, unix) in SETTINGS.items():
        with house(options, listen, unix=unix) as (front, metrics):
            cells = [held_by_sse(front, metrics, small=small) for small in (False, True)]
            one, many = (held(socket(each), front, metrics, small=False) for each in (1, 64))
        print(f"| {setting} | {' / '.join(cells)} | {one} | {many} |", flush=True)


if __name__ == "__main__":
    main()
