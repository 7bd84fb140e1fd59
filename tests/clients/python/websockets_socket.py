"""websockets, as its users call it without async."""

from __future__ import annotations

import json

from driving import main
from socket_story import LONG, SUBPROTOCOL, WRONG, address, follow
from websockets.sync.client import ClientConnection, connect


def made(url: str) -> ClientConnection:
    return connect(address(url), subprotocols=[SUBPROTOCOL])


def tell(url: str, wanted: int | None) -> dict[str, str]:
    with made(url) as socket:
        assert socket.subprotocol == SUBPROTOCOL
        return {"text": follow(wanted, socket.send, socket.recv)}


def whole(url: str) -> dict[str, str]:
    return tell(url, None)


def streamed(url: str) -> dict[str, str]:
    return tell(url, 1)


def aborted(url: str) -> None:
    with made(url) as socket:
        socket.send(json.dumps(LONG))
        socket.recv()
        socket.recv()


def refused(url: str) -> str:
    with made(url) as socket:
        socket.send(json.dumps(WRONG))
        told = json.loads(socket.recv())
        assert tell(url, None)  # the socket stays open
        return f"{told['type']} {told['error']['param']}"


main(whole, streamed, aborted, refused)
