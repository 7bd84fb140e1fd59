"""What the drivers of WebSocket clients say and hear."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator

from driving import MANY, PROMPT, TOKENS

SUBPROTOCOL = "penstock.v1"
ASKED = {"type": "start", "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
LONG = {"type": "start", "prompt": PROMPT, "max_tokens": MANY, "ignore_eos": True}
WRONG = {"type": "start", "prompt": PROMPT, "max_tokens": 0}


def address(url: str) -> str:
    return url.replace("http://", "ws://") + "/v1/ws"


def conversation(wanted: int | None) -> Generator[str, str, str]:
    """Yields what to send, is sent what came, and returns the text. Empty text sends nothing."""
    came = yield json.dumps(ASKED | ({} if wanted is None else {"credits": wanted}))
    text, number = "", 0
    while (told := json.loads(came))["type"] != "complete":
        if told["type"] == "token":
            number += 1
            assert told["seq"] == number
            text += told["text"]
        pull = wanted is not None and told["type"] == "token"
        came = yield json.dumps({"type": "pull", "n": 1}) if pull else ""
    assert told["seq"] == number + 1
    return text


def follow(wanted: int | None, send: Callable[[str], object], hear: Callable[[], str]) -> str:
    """The text of a conversation over a socket that blocks."""
    talk = conversation(wanted)
    say = next(talk)
    while True:
        if say:
            send(say)
        try:
            say = talk.send(hear())
        except StopIteration as end:
            return str(end.value)
