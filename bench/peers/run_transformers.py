"""transformers' generate as a peer: `python run_transformers.py CHECKPOINT THREADS DTYPE [DEVICE]`.

A checkpoint that is a config alone gets random weights, made where the model runs.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

import wire


class Peer:
    def __init__(self, folder: str, threads: str, dtype: str, device: str = "cpu") -> None:
        torch.set_num_threads(int(threads))
        self.device = device
        self.model = make_model(folder, getattr(torch, dtype), device)
        self.model.eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        self.cache, self.rows = DynamicCache(), torch.empty(0)

    def about(self) -> dict[str, object]:
        return {"versions": f"transformers {version('transformers')}, torch {torch.__version__}"}

    def prefill(self, ids: list[int]) -> dict[str, float]:
        self.cache, rows = DynamicCache(), torch.tensor([ids], device=self.device)
        started = time.perf_counter()
        self.generate(rows, 1).tolist()  # what is asked of a GPU is not yet done
        return {"seconds": time.perf_counter() - started}

    def open(self, prompts: list[list[int]], context: int = 0) -> dict[str, list[int]]:
        del context  # its cache grows
        self.cache = DynamicCache()
        self.rows = self.generate(torch.tensor(prompts, device=self.device), 1)
        return {"tokens": self.rows[:, -1].tolist()}

    def decode(self, steps: int, before: int) -> dict[str, object]:
        self.rows = self.generate(self.rows, before)
        started = time.perf_counter()
        self.rows = self.generate(self.rows, steps)
        tokens = self.rows[:, -1].tolist()
        return {"seconds": time.perf_counter() - started, "tokens": tokens}

    def close(self) -> dict[str, object]:
        self.cache, self.rows = DynamicCache(), torch.empty(0)
        return {}

    @torch.inference_mode()
    def generate(self, rows: torch.Tensor, steps: int) -> torch.Tensor:
        return self.model.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            past_key_values=self.cache,
            max_new_tokens=steps,
            do_sample=False,
        )


def make_model(folder: str, dtype: torch.dtype, device: str) -> torch.nn.Module:
    if list(Path(folder).glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)


if __name__ == "__main__":
    wire.serve(Peer(*sys.argv[1:]))
