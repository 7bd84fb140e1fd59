"""A torch loop as a peer: `python run_torch.py CONFIG_FOLDER THREADS DTYPE [DEVICE [CONTEXT]]`.

Random weights, a static cache, one captured CUDA graph a batch: what a step costs with as little
around it as torch allows. Greedy. On the CPU nothing is captured.
"""

from __future__ import annotations

import sys
import time

import torch
from run_transformers import make_model
from transformers import StaticCache

import wire


class Peer:
    def __init__(
        self, folder: str, threads: str, dtype: str, device: str = "cpu", context: str = "1024"
    ) -> None:
        torch.set_num_threads(int(threads))
        self.device, self.context, self.uncaptured = device, int(context), ""
        self.model = make_model(folder, getattr(torch, dtype), device).eval()
        self.close()

    def about(self) -> dict[str, object]:
        name = torch.cuda.get_device_name() if self.device == "cuda" else "cpu"
        return {"versions": f"torch {torch.__version__} on {name}", "uncaptured": self.uncaptured}

    def prefill(self, ids: list[int]) -> dict[str, float]:
        self.begin()
        rows = torch.tensor([ids], device=self.device)
        started = time.perf_counter()
        self.forward(rows, torch.arange(len(ids), device=self.device)).tolist()
        return {"seconds": time.perf_counter() - started}

    def open(self, prompts: list[list[int]], context: int = 0) -> dict[str, list[int]]:
        self.begin(context)
        rows = torch.tensor(prompts, device=self.device)
        places = torch.arange(rows.shape[1], device=self.device)
        self.tokens = self.forward(rows, places)[:, None].clone()
        self.place = torch.tensor([rows.shape[1]], device=self.device)
        if self.device == "cuda":
            self.try_to_capture()
        return {"tokens": self.tokens[:, 0].tolist()}

    def decode(self, steps: int, before: int) -> dict[str, object]:
        for _ in range(before):
            self.step()
        self.tokens.tolist()
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        tokens = self.tokens[:, 0].tolist()
        return {"seconds": time.perf_counter() - started, "tokens": tokens}

    def close(self) -> dict[str, object]:
        self.cache, self.graph = None, None
        self.tokens = self.place = torch.empty(0)
        return {}

    def begin(self, context: int = 0) -> None:
        self.close()
        length = context or self.context
        self.cache = StaticCache(config=self.model.config, max_cache_len=length)

    @torch.inference_mode()
    def forward(self, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        out = self.model(rows, past_key_values=self.cache, cache_position=places, logits_to_keep=1)
        return out.logits[:, -1].argmax(dim=-1)

    def advance(self) -> None:
        self.tokens.copy_(self.forward(self.tokens, self.place)[:, None])
        self.place += 1

    def step(self) -> None:
        if self.graph is None:
            self.advance()
        else:
            self.graph.replay()

    def try_to_capture(self) -> None:
        """Without a graph the loop is slower and still a measurement; `about` says which it was."""
        try:
            self.capture()
        except RuntimeError as error:
            self.graph, self.uncaptured = None, str(error).splitlines()[0][:200]

    def capture(self) -> None:
        """After a warm-up on a side stream, as capturing asks for."""
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                self.advance()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.advance()
        self.graph = graph


if __name__ == "__main__":
    wire.serve(Peer(*sys.argv[1:]))
