"""The story of one world, which is the same for the same seed."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from penstock import logs
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.models import embedded_model

Live: TypeAlias = Callable[[int, list[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Story:
    """What a world did, line by line, and what went wrong in it, if anything."""

    seed: int
    lines: tuple[str, ...]
    error: str | None

    def __str__(self) -> str:
        return "\n".join([f"seed {self.seed}", *self.lines, f"error: {self.error}"])


@cache
def words() -> Tokenizer:
    return load_tokenizer(embedded_model())


def tell(seed: int, live: Live) -> Story:
    """Live through a world."""
    lines: list[str] = []
    logs.to_logging()
    log = logging.getLogger("penstock")
    level = log.level
    log.setLevel(logging.CRITICAL)
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # as hypothesis does
    trio_run._r.seed(seed)
    # What is known of a job lives as long as somebody refers to it: not until some collection.
    gc.disable()
    try:
        trio.run(live, seed, lines, clock=MockClock(autojump_threshold=0))
    except BaseException as error:
        return Story(seed, tuple(lines), _explain(error))
    finally:
        gc.enable()
        log.setLevel(level)
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # type: ignore[misc]
        trio_run._r.setstate(before[1])
    return Story(seed, tuple(lines), None)


def _explain(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_explain(each) for each in error.exceptions)
    if isinstance(error, KeyboardInterrupt):
        raise error
    return f"{type(error).__name__}: {error}"
