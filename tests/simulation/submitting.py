"""The job API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from .client import MAY_REFUSE
from .following import Following
from .wire import LostError


class Submitting(Following):
    """A job, submitted once or several times, with several readers, cancelled, or left alone."""

    async def act(self) -> None:
        random = self.random
        self.events = {}
        self.window = random.choice((None, None, 1, 4))
        self.acknowledges = random.random() < 0.85
        self.cancels = random.random() < 0.2
        self.deletes = random.random() < 0.2
        self.gone = False
        job_id = await self._submit()
        if job_id is None:
            return
        async with trio.open_nursery() as nursery:
            for number in range(random.choice((0, 1, 1, 2, 4))):
                nursery.start_soon(self._quietly, partial(self._read_job, job_id, number))
            if self.window is not None and self.acknowledges:
                nursery.start_soon(self._quietly, partial(self._acknowledge, job_id))
            if self.cancels or self.deletes:
                nursery.start_soon(self._quietly, partial(self._end, job_id))
        if not self.deletes:
            await self._check_end(job_id)

    async def _quietly(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except LostError:
            self.expect(self.world.may_cut, "lost a connection that it was reading")

    async def _submit(self) -> str | None:
        body = dict(self.asked) | ({"window": self.window} if self.window else {})
        headers = {"idempotency-key": self.name} if self.random.random() < 0.5 else {}
        answers: list[tuple[int, Any]] = []

        async def once() -> None:
            # Without a key, a second attempt would be a second job.
            data, again = json.dumps(body).encode(), bool(headers)
            answers.append(await self.ask("POST", "/v1/jobs", data, headers, again=again))

        async with trio.open_nursery() as nursery:
            for _ in range(self.random.choice((1, 3)) if headers else 1):
                nursery.start_soon(self._quietly, once)
        for status, told in answers:
            if status not in (200, 202):
                self.check_error(told["error"], MAY_REFUSE)
        made = {told["job_id"] for status, told in answers if status in (200, 202)}
        self.expect(len(made) <= 1, f"one key made {len(made)} jobs")
        self.tell(f"submitted {[status for status, _ in answers]} {sorted(made)}")
        return made.pop() if made else None

    async def _read_job(self, job_id: str, number: int) -> None:
        await trio.sleep(self.random.choice((0, 0, 2, 40 * self.world.habits.haste)))
        got: list[bytes] = []

        def path(after: int) -> tuple[str, dict[str, str]]:
            if self.random.random() < 0.5:
                return f"/v1/stream?job_id={job_id}", {"last-event-id": str(after)}
            return f"/v1/stream?job_id={job_id}&last_event_id={after}", {}

        ended = await self.follow(path, got)
        self.expect(ended in ("end", "gone") or (ended == "404" and self.gone), f"ended by {ended}")
        self.tell(f"reader {number} got {len(got)}, {ended}")

    async def _acknowledge(self, job_id: str) -> None:
        while (told := await self._ask("GET", f"/v1/jobs/{job_id}"))["status"] in (
            "queued",
            "running",
        ):
            ahead = told["last_event_id"] - told["acknowledged"]
            self.expect(ahead <= (self.window or 0) + (told["error"] is not None), "window passed")
            body = {"id": told["last_event_id"]}
            await self._ask("POST", f"/v1/jobs/{job_id}/ack", body)
            await trio.sleep(self.random.choice((0, 0.5, 3)))

    async def _end(self, job_id: str) -> None:
        await trio.sleep(self.random.choice((0, 0.05, 1, 50 * self.world.habits.haste)))
        if self.cancels:
            self.tell("cancels its job")
            told = await self._ask("POST", f"/v1/jobs/{job_id}/cancel")
            self.expect(told["status"] not in ("queued", "running"), "not ended by cancel")
        if self.deletes:
            self.tell("deletes its job")
            self.gone = True
            await self._ask("DELETE", f"/v1/jobs/{job_id}")

    async def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        status, told = await self.ask(method, path, data)
        if status == 404 and self.gone:
            return {"status": "gone"}
        self.expect(status == 200, f"{method} {path} gave {status} {told}")
        found: dict[str, Any] = told
        return found

    async def _check_end(self, job_id: str) -> None:
        wait_s = 1.0
        while (told := await self._ask("GET", f"/v1/jobs/{job_id}"))["status"] in (
            "queued",
            "running",
        ):
            await trio.sleep(wait_s)
            wait_s = min(2 * wait_s, 60)
        self.tell(f"its job {told['status']} after {told['last_event_id']}")
        allowed = {"cancelled"} if self.cancels else set()
        if self.window is not None and not self.acknowledges:
            allowed.add("deadline_exceeded")
        if told["error"] is not None:
            self.check_error(told["error"], allowed)
            return
        expected, reason, tokens = self.world.script.pieces(self.prompt, self.stop)
        self.expect(told["text"] == "".join(expected), f"its text is {told['text']!r}")
        self.expect(told["last_event_id"] == len(expected) + 1, "its events are too few")
        self.expect(told["finish_reason"] == reason, f"finished as {told['finish_reason']}")
        self.expect(told["usage"]["completion_tokens"] == tokens, f"counted {told['usage']}")
