"""How many events each transport holds for a reader that never reads: `python bench/held.py`.

A server process for each setting; the reader asks and then reads nothing. When the decoder rests,
what was made is what client, kernel and server hold between them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.wire.http2 import Http2Client
from tests.wire.raw import HANDSHAKE, Raw, post, start
from tests.wire.servers import Server

PATH = "/v1/completions"
TOKENS = 1000
BODY: dict[str, Any] = {"prompt": "Once", "max_tokens": TOKENS, "ignore_eos": True}
STREAMED = {**BODY, "stream": True}
SETTINGS = {
    "default": [],
    "--send-buffer-bytes=4096": ["--send-buffer-bytes=4096"],
}


def http1(server: Server, *, small: bool) -> list[Raw]:
    """Several, since one answer of this model is less than the kernel's buffers hold."""
    peer = Raw(server, small=small)
    peer.send(post(PATH, STREAMED))
    return [peer]


def http2(server: Server, *, small: bool, window: int) -> list[Raw]:
    client = Http2Client(server, small=small, window=window)
    client.ask("POST", PATH, STREAMED)
    return [client]


def socket(server: Server, *, small: bool, credit: int | None) -> list[Raw]:
    peer = Raw(server, small=small)
    peer.send(HANDSHAKE)
    peer.read_until(b"\r\n\r\n")
    peer.send(start({**BODY, "credits": credit}))
    return [peer]


def held(options: list[str], peers: Any) -> str:  # noqa: ANN401  # one of the above, bound
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "log", "--max-len=1024", *options)
        try:
            opened = peers(server)
            made, still = -1.0, 0
            while still < 8:
                time.sleep(0.1)
                now = server.gauge("decode_steps")
                still = still + 1 if now == made and now else 0
                made = now
            for peer in opened:
                peer.socket.close()
            return f"{made + 1:.0f}" if made < TOKENS - 1 else f"all {TOKENS}"
        finally:
            server.stop()


def main() -> None:
    rows = {
        "HTTP/1.1 SSE": lambda server, small: http1(server, small=small),
        "HTTP/2 SSE, window 65,535": lambda server, small: http2(
            server, small=small, window=65_535
        ),
        "HTTP/2 SSE, window 6 MiB": lambda server, small: http2(
            server, small=small, window=6 << 20
        ),
        "WebSocket": lambda server, small: socket(server, small=small, credit=None),
        "WebSocket, 1 credit": lambda server, small: socket(server, small=small, credit=1),
        "WebSocket, 64 credits": lambda server, small: socket(server, small=small, credit=64),
    }
    print("| transport | " + " | ".join(SETTINGS) + " | and the client's SO_RCVBUF 4096 |")
    print("|---|" + "---|" * (len(SETTINGS) + 1))
    for name, ask in rows.items():
        cells = [
            held(options, lambda server, ask=ask: ask(server, small=False))
            for options in SETTINGS.values()
        ]
        cells.append(
            held(["--send-buffer-bytes=4096"], lambda server, ask=ask: ask(server, small=True))
        )
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
