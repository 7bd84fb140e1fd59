"""The WebSocket."""

from __future__ import annotations

from typing import Any

import trio

from .client import MAY_REFUSE, Client, leaves
from .wire import LostError, Pace, Socket


class Talking(Client):
    """A WebSocket: plain or resumable, with credits or without."""

    job_id: str | None = None

    async def act(self) -> None:
        random = self.random
        self.resumable = random.random() < 0.6
        self.cancels = random.random() < 0.15
        self.credits = random.choice((None, None, 0, 3))
        self.heard: list[str] = []
        for attempt in range(100):
            pace = self.pace() if attempt < 4 else Pace()
            if await self._talk(pace):
                return
            if self.job_id is not None and not self.resumable:
                return
            await trio.sleep(random.choice((0, 1, 5)))
        self.expect(False, "never ended")

    async def _talk(self, pace: Pace) -> bool:
        """Whether there is nothing more to be said."""
        try:
            socket = Socket(self.world.connect(self.random), pace)
        except ConnectionRefusedError:
            return True
        spoke_rubbish = False
        try:
            await socket.open()
            if self.random.random() < 0.1:
                spoke_rubbish = True
                await socket.say(self.random.choice(("{", '{"type":"x"}', '{"type":"pull","n":0}')))
            await self._begin(socket)
            return await self._listen(socket)
        except LostError:
            if socket.code in (4400, 1013, 1001) or self.world.may_cut:
                self.tell(f"was closed with {socket.code}")
            else:
                self.expect(leaves(pace) or spoke_rubbish, f"lost its socket, {socket.code}")
            self.tell(f"lost its socket after {len(self.heard)}")
            return False
        finally:
            socket.wire.reset()

    async def _begin(self, socket: Socket) -> None:
        if self.job_id is None:
            await socket.tell("start", **self.asked, credits=self.credits, resumable=self.resumable)
        else:
            await socket.tell(
                "resume", job_id=self.job_id, after=len(self.heard), credits=self.credits
            )

    async def _listen(self, socket: Socket) -> bool:
        spent, asked_end = 0, False
        allowed = self.credits
        while True:
            if allowed is not None and spent >= allowed:
                await trio.sleep(self.random.choice((0, 0.1, 4)))
                more = self.random.randrange(1, 9)
                await socket.tell("pull", n=more)
                allowed += more
            if self.cancels and not asked_end and self.random.random() < 0.3:
                asked_end = True
                await socket.tell("cancel")
            message = await socket.hear()
            self.hears()
            match message["type"]:
                case "started":
                    self.job_id = message["job_id"]
                    self.expect(message["after"] == len(self.heard), f"started at {message}")
                case "token":
                    spent += 1
                    self.expect(allowed is None or spent <= allowed, "more than was allowed")
                    self.heard.append(message["text"])
                    self.expect(message["seq"] == len(self.heard), f"{message} at the wrong place")
                case kind:
                    return self._check_end(kind, message, asked_end)

    def _check_end(self, kind: str, message: dict[str, Any], asked_end: bool) -> bool:
        self.tell(f"{kind} after {len(self.heard)}")
        if kind == "complete":
            self.expect(message["seq"] == len(self.heard) + 1, "a gap before the end")
            self.check_pieces(self.heard, end=message)
            return True
        self.check_pieces(self.heard, end=None)
        if kind == "cancelled":
            self.expect(asked_end or self.cancels or self.unread, "cancelled by nobody")
        else:
            late = {"job_not_found"} if self.late else set()
            self.check_error(message["error"], MAY_REFUSE | late)
        return True
