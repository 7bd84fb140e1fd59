"""Penstock's engine as a peer that also answers `facts`; arguments as of `run_penstock.py`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import run_penstock
from gpu_facts import facts

import wire


class Peer(run_penstock.Peer):
    def about(self) -> dict[str, Any]:
        return {**super().about(), "captured": self.engine.captured_rows}

    def whole(self, prompts: list[list[int]], tokens: int, context: int) -> dict[str, float]:
        """Seconds from the first prompt to the last of `tokens` of each, as a server is timed."""
        self.engine = self.make_engine(len(prompts), context)
        for row in prompts[:1] * 2:
            self.engine.close(self.first(row)[0])
        started = time.perf_counter()
        sequences = [self.first(ids)[0] for ids in prompts]
        for _ in range(tokens - 1):
            self.engine.step(sequences)
        return {"seconds": time.perf_counter() - started}

    def facts(self) -> dict[str, Any]:
        return facts(self.model)


if __name__ == "__main__":
    wire.serve(Peer(*sys.argv[1:]))
