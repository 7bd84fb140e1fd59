"""trio-websocket."""

from __future__ import annotations

import json
from functools import partial

import trio
from driving import main
from socket_story import LONG, SUBPROTOCOL, WRONG, address, conversation
from trio_websocket import open_websocket_url


async def tell(url: str, wanted: int | None) -> dict[str, str]:
    talk = conversation(wanted)
    say = next(talk)
    async with open_websocket_url(address(url), subprotocols=[SUBPROTOCOL]) as socket:
        while True:
            if say:
                await socket.send_message(say)
            try:
                say = talk.send(await socket.get_message())
            except StopIteration as end:
                return {"text": end.value}


async def abort(url: str) -> None:
    async with open_websocket_url(address(url)) as socket:
        await socket.send_message(json.dumps(LONG))
        await socket.get_message()
        await socket.get_message()


async def refuse(url: str) -> str:
    async with open_websocket_url(address(url)) as socket:
        await socket.send_message(json.dumps(WRONG))
        told = json.loads(await socket.get_message())
        return f"{told['type']} {told['error']['param']}"


def whole(url: str) -> dict[str, str]:
    return trio.run(tell, url, None)


def streamed(url: str) -> dict[str, str]:
    return trio.run(tell, url, 1)


def aborted(url: str) -> None:
    trio.run(partial(abort, url))


def refused(url: str) -> str:
    return trio.run(refuse, url)


main(whole, streamed, aborted, refused)
