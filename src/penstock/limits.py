"""What one request may ask for, and what an account has used of what it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.requests import Limit


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for: answers (n), bytes of a body, and time to send it in.

    0 sets no deadline for its turn or its end, and no limit to the tokens of all together.
    """

    max_choices: int
    max_body_bytes: int
    body_deadline_s: float = 60.0
    queue_deadline_s: float = 0.0
    total_deadline_s: float = 0.0
    tokens_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """What an account has used under each limit, and how many streams it has open."""

    used: Mapping[Limit, int]
    streams: int
