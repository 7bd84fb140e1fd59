"""onnxruntime-genai's Generator as a peer: `python run_genai.py MODEL THREADS`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np
import onnxruntime_genai as og

import wire

CONTEXT = 1024
BATCH = 16
PAD = 0


class Peer:
    def __init__(self, folder: str, threads: str) -> None:
        config = og.Config(folder)
        session = {"intra_op_num_threads": int(threads)}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        config.overlay(json.dumps({"model": {"pad_token_id": PAD}}))
        self.model = og.Model(config)
        self.generator: og.Generator | None = None

    def about(self) -> dict[str, object]:
        return {"versions": f"onnxruntime-genai {version('onnxruntime-genai')}"}

    def prefill(self, ids: list[int]) -> dict[str, float]:
        generator = self.make(1)
        started = time.perf_counter()
        generator.append_tokens(np.array([ids], np.int32))
        generator.generate_next_token()
        generator.get_next_tokens()
        return {"seconds": time.perf_counter() - started}

    def open(self, prompts: list[list[int]]) -> dict[str, list[int]]:
        self.generator = self.make(len(prompts))
        self.generator.append_tokens(np.array(prompts, np.int32))
        self.generator.generate_next_token()
        return {"tokens": [int(token) for token in self.generator.get_next_tokens()]}

    def decode(self, steps: int, before: int) -> dict[str, object]:
        for _ in range(before):
            self.step()
        started = time.perf_counter()
        for _ in range(steps):
            tokens = self.step()
        taken = time.perf_counter() - started
        return {"seconds": taken, "tokens": [int(token) for token in tokens]}

    def close(self) -> dict[str, object]:
        self.generator = None
        return {}

    def trace(self, requests: list[dict[str, Any]]) -> dict[str, float]:
        """Static batches: all that wait, at most 16, padded, until the longest is done."""
        waiting, waits = list(requests), []
        started = time.perf_counter()
        while waiting:
            now = time.perf_counter() - started
            batch = [request for request in waiting[:BATCH] if request["arrival_s"] <= now]
            if not batch:
                time.sleep(waiting[0]["arrival_s"] - now)
                continue
            del waiting[: len(batch)]
            first = self.static(batch)
            waits += [first - started - request["arrival_s"] for request in batch]
        return {"seconds": time.perf_counter() - started, "first_token_s": sum(waits) / len(waits)}

    def static(self, batch: list[dict[str, Any]]) -> float:
        """Run one batch to its end; when it had its first tokens."""
        width = max(len(request["ids"]) for request in batch)
        longest = max(request["output"] for request in batch)
        rows = np.full((len(batch), width), PAD, np.int32)
        for row, request in zip(rows, batch, strict=True):
            row[width - len(request["ids"]) :] = request["ids"]
        generator = self.make(len(batch), width + longest)
        generator.append_tokens(rows)
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(longest - 1):
            generator.generate_next_token()
            generator.get_next_tokens()
        return first

    def step(self) -> Iterable[int]:
        assert self.generator is not None
        self.generator.generate_next_token()
        return self.generator.get_next_tokens()

    def make(self, batch: int, length: int = CONTEXT) -> og.Generator:
        params = og.GeneratorParams(self.model)
        # A minimum as long as the maximum is how an end-of-text token is ignored.
        params.set_search_options(
            batch_size=batch, max_length=length, min_length=length, do_sample=False
        )
        return og.Generator(self.model, params)


if __name__ == "__main__":
    wire.serve(Peer(*sys.argv[1:]))
