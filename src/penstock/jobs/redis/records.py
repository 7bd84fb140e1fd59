"""The events of a log as they are kept."""

from __future__ import annotations

from penstock.events import Delta, Event
from penstock.jobs.redis.codec import decode_event
from penstock.jobs.redis.link import Link

PAGE = 512


async def pull(link: Link, job_id: str, after: int, limit: int) -> list[Event]:
    """Those behind number `after`. Raises `AwayError`."""
    return [decode_event(each) for each in await link.events(f"log:{job_id}", after, limit)]


async def pull_text(link: Link, job_id: str) -> str:
    """All text. Raises `AwayError`."""
    texts: list[str] = []
    after, events = 0, await pull(link, job_id, 0, PAGE)
    while events:
        texts += [event.text for event in events if isinstance(event, Delta)]
        after += len(events)
        events = await pull(link, job_id, after, PAGE)
    return "".join(texts)
