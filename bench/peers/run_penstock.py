"""Penstock's engine as a peer: `run_penstock.py MODEL THREADS [DEVICE CONTEXT CHUNK CAPTURED]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Literal

import onnxruntime as ort
from replay import replay

import wire
from penstock.engine.engine import Engine, EngineSequence, Sampled
from penstock.engine.model import load_model
from penstock.requests import Prompt, Sampling

CONTEXT = 1024
CHUNK = 128
"""The server's default."""


class Peer:
    def __init__(
        self,
        folder: str,
        threads: str,
        device: Literal["cpu", "cuda"] = "cpu",
        context: str = str(CONTEXT),
        chunk: str = str(CHUNK),
        captured: str = "0",
    ) -> None:
        self.context, self.chunk = int(context), int(chunk)
        self.model = load_model(
            Path(folder), device=device, threads=int(threads), capture_rows=int(captured)
        )
        self.sequences: list[EngineSequence] = []
        self.engine = self.make_engine(1)

    def about(self) -> dict[str, object]:
        files = self.model.file.parent.glob("model.onnx*")
        return {
            "versions": f"onnxruntime {ort.__version__}",
            "bytes": sum(file.stat().st_size for file in files),
            "kv_bytes": self.model.spec.kv_bytes_per_token,
        }

    def make_engine(self, slots: int, context: int = 0) -> Engine:
        # Nothing is shared between prompts: every token of every prompt is computed.
        length = context or self.context
        return Engine(self.model, slots=slots, max_len=length, prefill_chunk=self.chunk)

    def prefill(self, ids: list[int]) -> dict[str, float]:
        started = time.perf_counter()
        sequence, _ = self.first(ids)
        taken = time.perf_counter() - started
        self.engine.close(sequence)
        return {"seconds": taken}

    def open(self, prompts: list[list[int]], context: int = 0) -> dict[str, list[int]]:
        self.engine = self.make_engine(len(prompts), context)
        opened = [self.first(ids) for ids in prompts]
        self.sequences = [sequence for sequence, _ in opened]
        return {"tokens": [token for _, token in opened]}

    def decode(self, steps: int, before: int) -> dict[str, object]:
        for _ in range(before):
            self.engine.step(self.sequences)
        started = time.perf_counter()
        for _ in range(steps):
            results = self.engine.step(self.sequences)
        taken = time.perf_counter() - started
        return {"seconds": taken, "tokens": [result.token_id for result in results]}

    def close(self) -> dict[str, object]:
        self.sequences = []
        self.engine = self.make_engine(1)
        return {}

    def trace(self, requests: list[dict[str, object]]) -> dict[str, float]:
        return replay(self.make_engine(16), requests)

    def first(self, ids: list[int]) -> tuple[EngineSequence, int]:
        greedy, length = Sampling(temperature=0), self.engine.max_len
        prompt = Prompt(tuple(ids), length, greedy, seed=0, ignore_eos=True)
        sequence = self.engine.open(prompt)
        self.engine.admit(sequence)
        result = None
        while result is None:
            result = self.engine.prefill(sequence)
        assert isinstance(result, Sampled)
        return sequence, result.token_id


if __name__ == "__main__":
    wire.serve(Peer(*sys.argv[1:]))
