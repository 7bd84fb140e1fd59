"""How far a job may run ahead of those who read it: a decision, whatever the store."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.jobs.job import Order


def has_room(
    made: int, *, acknowledged: int, window: int | None, readers: Iterable[int], ahead: int
) -> bool:
    """Whether one more event may be made.

    At most `window` may be unacknowledged, where there is one. While there are readers, at most
    `ahead` may lie behind the furthest; nobody holds up a job that nobody reads.
    """
    if is_held_up(made, acknowledged=acknowledged, window=window):
        return False
    furthest = max(readers, default=None)
    return furthest is None or made - furthest < ahead


def is_held_up(made: int, *, acknowledged: int, window: int | None) -> bool:
    """Whether nothing can be made without an acknowledgement."""
    return window is not None and made - acknowledged >= window


def unread_at_s(order: Order, idle_s: float, held_up_s: float) -> float:
    """When a job is given up that nobody has read since `idle_s`, if nobody does until then.

    One that cannot go on without an acknowledgement, since `held_up_s`, is kept no longer than one
    that has ended. Any clock, in seconds.
    """
    return min(idle_s + order.unread_s, max(idle_s, held_up_s) + order.keep_s)
