"""Prompts: what chunking costs, and what a shared beginning saves. `python bench/prefill.py`."""

from __future__ import annotations

import argparse
import time
from statistics import median

from penstock.engine.engine import Engine
from penstock.engine.model import Model, load_model
from penstock.models import parse_model
from penstock.requests import Prompt, Sampling

LENGTH = 900
SHARED, SUFFIX = 400, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--chunks", type=int, nargs="+", default=[32, 64, 128, 256, 1024])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    _, folder = parse_model(options.model)
    model = load_model(folder)
    chunking(model, options.chunks, options.rounds)
    sharing(model, options.chunks, options.rounds)


def chunking(model: Model, chunks: list[int], rounds: int) -> None:
    engines = {chunk: make_engine(model, chunk) for chunk in chunks}
    prompt = make_prompt(LENGTH, 0)
    taken: dict[int, list[float]] = {chunk: [] for chunk in chunks}
    for _ in range(rounds):
        for chunk, engine in engines.items():
            taken[chunk].append(first_token_s(engine, prompt))
    whole = median(taken[max(chunks)])
    print(f"prefill of {LENGTH} tokens, medians of {rounds}; the largest chunk is the whole prompt")
    print("chunk   ms  tok/s  share of unchunked speed")
    for chunk in chunks:
        middle = median(taken[chunk])
        print(f"{chunk:5}  {middle * 1e3:3.0f}  {LENGTH / middle:5.0f}  {whole / middle:.2f}")


def sharing(model: Model, chunks: list[int], rounds: int) -> None:
    print(f"\nfirst token after {SHARED} shared and {SUFFIX} own tokens, medians of {rounds}")
    print("chunk  unknown ms  known ms  ratio")
    for chunk in chunks:
        cold, warm = [], []
        engine = make_engine(model, chunk, prefix_cache_bytes=1 << 30)
        for number in range(rounds):
            cold.append(first_token_s(engine, make_prompt(SHARED, number)))
            warm.append(first_token_s(engine, make_prompt(SHARED, number, own=1)))
        ratio = median(c / w for c, w in zip(cold, warm, strict=True))
        print(f"{chunk:5}  {median(cold) * 1e3:10.1f}  {median(warm) * 1e3:8.1f}  {ratio:5.1f}")


def make_engine(model: Model, chunk: int, prefix_cache_bytes: int = 0) -> Engine:
    return Engine(
        model,
        slots=1,
        max_len=model.spec.max_positions,
        prefill_chunk=chunk,
        prefix_cache_bytes=prefix_cache_bytes,
    )


def make_prompt(shared: int, seed: int, own: int = 0) -> Prompt:
    """`shared` tokens that depend on the seed, then a few that depend on `own` too."""
    ids = [(37 * i + 101 * seed) % 4000 + 8 for i in range(shared)]
    ids += [(53 * i + 7 * seed + 911 * own) % 4000 + 8 for i in range(SUFFIX)]
    return Prompt(tuple(ids), 1, Sampling(temperature=0), seed=0, ignore_eos=True)


def first_token_s(engine: Engine, prompt: Prompt) -> float:
    started = time.perf_counter()
    sequence = engine.open(prompt)
    engine.admit(sequence)
    while engine.prefill(sequence) is None:
        pass
    taken_s = time.perf_counter() - started
    engine.close(sequence)
    return taken_s


if __name__ == "__main__":
    main()
