"""POST /v1/completions, streamed and whole."""

from __future__ import annotations

import json
from typing import Any

from .client import MAY_REFUSE, Client
from .wire import LostError


class Streaming(Client):
    """POST /v1/completions with stream."""

    async def act(self) -> None:
        pace, pieces, end, buffer = self.pace(), list[str](), None, bytearray()
        exchange = self.exchange(pace)
        try:
            body = {**self.asked, "stream": True, "stream_options": {"include_usage": True}}
            await exchange.ask("POST", "/v1/completions", json.dumps(body).encode())
            while (event := await exchange.event(buffer)) is not None:
                if event == b"data: [DONE]":
                    self.expect(await exchange.next() is None, "something after the end")
                    self.check_pieces(pieces, end=end)
                    self.tell(f"streamed all of {len(pieces)}")
                    return
                if event.startswith(b"data: "):
                    end = self._take(json.loads(event[6:]), pieces, end)
                if end is not None and "code" in end:
                    break
            if exchange.status != 200:
                self.check_error(json.loads(buffer)["error"], MAY_REFUSE)
                self.tell(f"was refused with {exchange.status}")
            else:
                self.expect(end is not None and "code" in end, "the body ended without an end")
                self.check_pieces(pieces, end=None)
                self.tell(f"got {len(pieces)} and then {end}")
        except LostError:
            self.check_lost(pace)
            self.check_pieces(pieces, end=None)
            self.tell(f"left a stream after {len(pieces)}")
        finally:
            exchange.wire.reset()

    def _take(
        self, chunk: dict[str, Any], pieces: list[str], end: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        if error := chunk.get("error"):
            self.check_error(error, set())
            return {"code": error["code"]}
        for choice in chunk["choices"]:
            if choice["text"]:
                pieces.append(choice["text"])
            if choice["finish_reason"]:
                end = {"finish_reason": choice["finish_reason"]}
        if usage := chunk.get("usage"):
            end = {**(end or {}), "usage": usage}
        return end


class Whole(Client):
    """POST /v1/completions, all at once."""

    async def act(self) -> None:
        pace = self.pace()
        exchange = self.exchange(pace)
        try:
            await exchange.ask("POST", "/v1/completions", json.dumps(self.asked).encode())
            told = await exchange.json()
        except LostError:
            self.check_lost(pace)
            self.tell("left before its answer")
            return
        finally:
            exchange.wire.reset()
        if exchange.status != 200:
            self.check_error(told["error"], MAY_REFUSE)
            self.tell(f"was refused with {exchange.status}")
            return
        expected, reason, tokens = self.world.script.pieces(self.prompt, self.stop)
        choice = told["choices"][0]
        self.expect(choice["text"] == "".join(expected), f"got {choice['text']!r}")
        self.expect(choice["finish_reason"] == reason, f"finished as {choice['finish_reason']}")
        self.expect(told["usage"]["completion_tokens"] == tokens, f"counted {told['usage']}")
        self.tell("got a whole answer")
