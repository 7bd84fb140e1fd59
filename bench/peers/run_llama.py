"""llama.cpp through llama-cpp-python's low-level API as a peer: `python run_llama.py GGUF THREADS`.

One `llama_decode` a step with a token of each sequence, as llama.cpp's own server does it.
"""

from __future__ import annotations

import ctypes
import sys
import time
from importlib.metadata import version

import llama_cpp as llama
import numpy as np

import wire

CONTEXT = 1024
BATCH = 512


class Peer:
    def __init__(self, file: str, threads: str) -> None:
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.threads = int(threads)
        self.model = llama.llama_model_load_from_file(file.encode(), params)
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.batch = llama.llama_batch_init(BATCH, 0, 1)
        self.context = None
        self.last: list[int] = []
        self.length = 0

    def about(self) -> dict[str, object]:
        features = llama.llama_print_system_info().decode()
        return {
            "versions": f"llama-cpp-python {version('llama-cpp-python')}",
            "features": features.strip(" |"),
        }

    def prefill(self, ids: list[int]) -> dict[str, float]:
        self.make(1)
        started = time.perf_counter()
        self.prompt(0, ids)
        return {"seconds": time.perf_counter() - started}

    def open(self, prompts: list[list[int]]) -> dict[str, list[int]]:
        self.make(len(prompts))
        self.last = [self.prompt(row, ids) for row, ids in enumerate(prompts)]
        self.length = len(prompts[0])
        return {"tokens": self.last}

    def decode(self, steps: int, before: int) -> dict[str, object]:
        for _ in range(before):
            self.step()
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        return {"seconds": time.perf_counter() - started, "tokens": self.last}

    def close(self) -> dict[str, object]:
        if self.context is not None:
            llama.llama_free(self.context)
            self.context = None
        return {}

    def make(self, sequences: int) -> None:
        self.close()
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max = CONTEXT * sequences, sequences
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = self.threads
        self.context = llama.llama_init_from_model(self.model, params)

    def prompt(self, row: int, ids: list[int]) -> int:
        for place, token in enumerate(ids):
            self.put(place, token, place, row, last=place == len(ids) - 1)
        self.run(len(ids))
        return self.largest(len(ids) - 1)

    def step(self) -> None:
        for row, token in enumerate(self.last):
            self.put(row, token, self.length, row, last=True)
        self.run(len(self.last))
        self.last = [self.largest(row) for row in range(len(self.last))]
        self.length += 1

    def put(self, place: int, token: int, position: int, row: int, *, last: bool) -> None:
        batch = self.batch
        batch.token[place], batch.pos[place] = token, position
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
        batch.logits[place] = last

    def run(self, tokens: int) -> None:
        self.batch.n_tokens = tokens
        if llama.llama_decode(self.context, self.batch):
            raise RuntimeError("llama_decode failed")

    def largest(self, place: int) -> int:
        logits = llama.llama_get_logits_ith(self.context, place)
        shape = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocab)).contents
        return int(np.frombuffer(shape, np.float32).argmax())


if __name__ == "__main__":
    wire.serve(Peer(*sys.argv[1:]))
