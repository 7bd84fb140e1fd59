"""Numbered events, over as many connections as it takes; and GET /chat/stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import trio

from .client import MAY_REFUSE, Client, is_away
from .wire import Exchange, LostError, Pace


class Following(Client):
    """One who reads numbered events over as many connections as that takes."""

    events: dict[int, bytes]

    async def follow(
        self, path: Callable[[int], tuple[str, dict[str, str]]], got: list[bytes]
    ) -> str:
        """Read on behind `got` until the end; how that came: end, gone, 404, refused.

        Some do not come back once they have lost their connection.
        """
        gives_up = self.random.random() < self.world.habits.impatience
        for attempt in range(100):
            pace = self.pace() if attempt < 4 else Pace()
            exchange = None
            try:
                exchange = self.exchange(pace)
                target, headers = path(len(got))
                await exchange.ask("GET", target, headers=headers)
                ended = await self._read(exchange, got)
                if ended is not None:
                    return ended
            except LostError:
                if self.world.over:
                    return "gone"
                self.check_lost(pace)
                self.tell(f"lost its connection after {len(got)}")
                if gives_up:
                    return "gone"
            finally:
                if exchange is not None:
                    exchange.wire.reset()
            await trio.sleep(self.random.choice((1, 1, 1, 5)))
        raise AssertionError("never ended")

    async def _read(self, exchange: Exchange, got: list[bytes]) -> str | None:
        buffer = bytearray()
        while (event := await exchange.event(buffer)) is not None:
            self.hears()
            event = event.replace(b"retry: 1000\n", b"")
            number = int(event.split(b"id: ")[1].split(b"\n")[0].split(b":")[-1])
            self.expect(number == len(got) + 1, f"event {number} after {len(got)}")
            known = self.events.setdefault(number, event)
            self.expect(known == event, f"event {number} is {event!r}, and was {known!r}")
            got.append(event)
            if not event.startswith(b"event: token\n"):
                self.expect(await exchange.next() is None, "something after the end")
                return "end"
        if exchange.status == 200:
            self.expect(False, "a stream ended without an end")
        if exchange.status in (404, 429):
            told = json.loads(buffer)
            self.check_error(told["error"], MAY_REFUSE | {"job_not_found"})
            if self.world.attempts > 1 and is_away(exchange.status, told):
                return None
        whole = bool(got) and not got[-1].startswith(b"event: token\n")
        return "end" if exchange.status == 204 and whole else str(exchange.status)

    @staticmethod
    def data(event: bytes) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(event.split(b"data: ", 1)[1])
        return told


class Asking(Following):
    """GET /chat/stream, as an EventSource."""

    async def act(self) -> None:
        self.events, self.stop = {}, ()
        content = self.asked["prompt"]
        fields = {name: self.asked[name] for name in ("prompt", "max_tokens", "seed")}
        self.prompt = self.world.prompt(self.asked, chat=content)
        got: list[bytes] = []

        def path(after: int) -> tuple[str, dict[str, str]]:
            if not after:
                self.events.clear()
            told = got[-1].split(b"id: ")[1].split(b"\n")[0].decode() if after else ""
            headers = {"last-event-id": told} if after else {}
            return f"/chat/stream?{urlencode(fields)}", headers

        ended = await self.follow(path, got)
        told = [self.data(event) for event in got]
        pieces = [each["text"] for each in told if "text" in each]
        end = told[-1] if ended == "end" else None
        if end is not None and end["finish_reason"] == "error":
            self.check_error(end["error"], {"unread"} if self.unread else set())
            end = None
        self.check_pieces(pieces, end=end)
        late = ended == "204" and self.late
        self.expect(ended in ("end", "gone", "429") or late, f"ended by {ended}")
        self.tell(f"asked and got {len(pieces)}, {ended}")
