"""How far a job may run ahead of those who read it: a decision, whatever the store."""

from __future__ import annotations

from collections.abc import Iterable


def has_room(
    made: int, *, acknowledged: int, window: int | None, readers: Iterable[int], ahead: int
) -> bool:
    """Whether one more event may be made.

    At most `window` may be unacknowledged, where there is one. While there are readers, at most
    `ahead` may lie behind the furthest; nobody holds up a job that nobody reads.
    """
    if window is not None and made - acknowledged >= window:
        return False
    furthest = max(readers, default=None)
    return furthest is None or made - furthest < ahead
