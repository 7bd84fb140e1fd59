"""What is measured first, what no longer fits, and what hangs, for `gpu.py`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

WEIGHTS_GB = {"qwen2.5-0.5b": 1.0, "qwen2.5-1.5b": 3.1, "qwen2.5-7b": 15.2, "llama-3-8b": 16.1}
PARTS = {
    "engine": (12, 2.0),
    "delivered": (12, 1.2),
    "transformers": (25, 1.0),
    "torch": (25, 1.0),
    "captured": (12, 1.3),
    "bfloat16": (12, 1.5),
}
"""Seconds of each part, and for each GB of weights: guesses, mended by what the first ones take."""
FIRST = (
    ("engine", "qwen2.5-0.5b"),
    ("engine", "qwen2.5-7b"),
    ("delivered", "qwen2.5-7b"),
    ("transformers", "qwen2.5-7b"),
    ("torch", "qwen2.5-7b"),
    ("captured", "qwen2.5-7b"),
    ("captured", "qwen2.5-0.5b"),
    ("engine", "qwen2.5-1.5b"),
    ("engine", "llama-3-8b"),
    ("delivered", "qwen2.5-0.5b"),
)
"""The smallest shape, so that what is wrong shows in seconds; then the one that the goals name."""
HANGS = 3
"""A part that takes so many times what was expected of it is ended."""
SLACK_S = 30
LEAST_S = 5


def order(parts: Sequence[str], shapes: Sequence[str]) -> list[tuple[str, str]]:
    """Every part of every shape that is asked for; bfloat16 of the 7 B shape alone, if there."""
    narrow = [each for each in shapes if each == "qwen2.5-7b"] or shapes[-1:]
    wanted = [
        (part, shape)
        for part in PARTS
        if part in parts
        for shape in shapes
        if part != "bfloat16" or shape in narrow
    ]
    first = [each for each in FIRST if each in wanted]
    return first + [each for each in wanted if each not in first]


class Budget:
    """`budget_s` counts from here."""

    def __init__(self, budget_s: float) -> None:
        self._ends = time.perf_counter() + budget_s
        self._pace: dict[str, float] = {}

    @property
    def left_s(self) -> float:
        return self._ends - time.perf_counter()

    def expected_s(self, part: str, shape: str) -> float:
        fixed, by_gb = PARTS[part]
        pace = self._pace.get(part, max(self._pace.values(), default=1.0))
        return pace * (fixed + by_gb * WEIGHTS_GB.get(shape, 0.1))

    def refuses(self, part: str, shape: str) -> str:
        """Why it is not begun; "" where it is."""
        expected, left = self.expected_s(part, shape), self.left_s
        return "" if expected < left else f"takes about {expected:.0f} s, and {left:.0f} s are left"

    @contextmanager
    def spent(self, part: str, shape: str) -> Iterator[None]:
        """Learn from what the body takes, and end its processes if it hangs."""
        expected, began = self.expected_s(part, shape), time.perf_counter()
        limit_s = max(min(HANGS * expected + SLACK_S, self.left_s), LEAST_S)
        watch = Timer(limit_s, end_children, [f"{shape}: {part} is ended after {limit_s:.0f} s"])
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            guess = expected / self._pace.get(part, max(self._pace.values(), default=1.0))
            self._pace[part] = (time.perf_counter() - began) / guess


def end_children(why: str) -> None:
    """Whoever waits for one of them sees it gone (Linux)."""
    print(f"# {why}", file=sys.stderr, flush=True)
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
