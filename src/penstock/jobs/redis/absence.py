"""A Redis that does not do what it was asked, or does not have what it was given."""

from __future__ import annotations

from glide import GlideError

from penstock.errors import INTERNAL, JOB_NOT_FOUND, UNAVAILABLE, PenstockError

_PASSING = ("MISCONF", "READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "BUSY")
"""It is read-only, cannot write to its disk, or is not ready yet."""


class AwayError(PenstockError):
    """Redis does not answer. Whether it did what it was asked is not known."""

    def __init__(self) -> None:
        super().__init__(
            UNAVAILABLE, "the store of jobs is away; try again shortly", retry_after_s=2
        )


class FullError(PenstockError):
    """Redis has no memory for anything new. It did nothing."""

    def __init__(self) -> None:
        super().__init__(
            UNAVAILABLE, "the store of jobs is full; try again after Retry-After", retry_after_s=5
        )


class LostError(PenstockError):
    """Events of a job are gone while the job is there: nobody can read it, or go on with it."""

    def __init__(self) -> None:
        super().__init__(
            INTERNAL, "events of this job were lost in the store of jobs; submit it again"
        )


def forgotten() -> PenstockError:
    return PenstockError(JOB_NOT_FOUND, "this job has been forgotten")


def is_fault(error: GlideError) -> bool:
    """Whether a script of ours failed: that does not pass, and comes out as such."""
    told = str(error)
    return "user_script" in told and not any(word in told for word in _PASSING)
