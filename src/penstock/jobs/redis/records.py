"""The events of a log as they are kept."""

from __future__ import annotations

from penstock.events import Delta, Event
from penstock.jobs.redis import scripts
from penstock.jobs.redis.absence import LostError, forgotten
from penstock.jobs.redis.codec import decode_event
from penstock.jobs.redis.link import Link

PAGE = 512


async def pull(link: Link, job_id: str, after: int, limit: int) -> list[Event]:
    """Those behind number `after`. Raises `AwayError`, and `LostError` where one is not there."""
    told = await link.events(f"log:{job_id}", after, limit)
    if [number for number, _ in told] != list(range(after + 1, after + 1 + len(told))):
        raise LostError
    return [decode_event(each) for _, each in told]


async def is_to_come(link: Link, job_id: str, after: int) -> bool:
    """Whether the event behind `after`, which was there once, is to be waited for.

    A Redis that lost its last events gets them again. It is there by now where this is false.
    Raises `AwayError`, and where it never comes `LostError` or the job's `JOB_NOT_FOUND`.
    """
    why = await link.call(scripts.MISSING, job_id, after)
    if why == b"gone":
        raise forgotten()
    if why in {b"lost", b"ended"}:
        raise LostError
    return bool(why == b"later")


async def pull_text(link: Link, job_id: str) -> str:
    """All text. Raises `AwayError`, and `LostError` where a part of it is gone."""
    texts: list[str] = []
    after, events = 0, await pull(link, job_id, 0, PAGE)
    while events:
        texts += [event.text for event in events if isinstance(event, Delta)]
        after += len(events)
        events = await pull(link, job_id, after, PAGE)
    if await link.call(scripts.MISSING, job_id, after) == b"lost":
        raise LostError
    return "".join(texts)
