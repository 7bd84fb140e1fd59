"""Engines side by side on the same weights: `python bench/engine.py --work DIR …`.

Each engine runs in a process, and the peers in an environment of their own, since onnxruntime and
onnxruntime-gpu overwrite each other's files. One computes at a time: the others are stopped by
SIGSTOP, so that no thread pool spins. Every round asks each engine once, in a rotated order; ratios
are taken within a round. All sequences have 512 tokens when decoding begins, and go on from round
to round, so all engines stand at the same length. Greedy; end-of-text tokens are ignored.

    python -m venv genai && genai/bin/pip install onnxruntime-genai onnxruntime onnx onnx_ir \\
        torch transformers safetensors       # torch from its CPU index, if there is a choice
    python -m venv llama && CC=clang CXX=clang++ CMAKE_ARGS="-DGGML_NATIVE=ON" llama/bin/pip \\
        install gguf --no-binary llama-cpp-python llama-cpp-python  # GCC 12 breaks its AMX
    python bench/engine.py --work /tmp/bench --checkpoint FOLDER \\
        --genai genai/bin/python --transformers genai/bin/python --llama llama/bin/python
    python bench/engine.py --work /tmp/bench --checkpoint qwen2.5-0.5b --tokenizer FOLDER …
    python bench/engine_report.py --work /tmp/bench --plot docs/engines.svg

Engines whose Python is not given are skipped. Rounds are appended to DIR/engine.jsonl, of which
`engine_report.py` makes tables; `--batches` and `--contestants` split a long measurement.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from datetime import date
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from bandwidth import read_bytes_s
from contestants import CONTESTANTS, RANDOM, make_random
from processes import Peer, contest, rotated

PREFILL = 512
STARTED = time.perf_counter()


def main() -> None:
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoint = Path(options.checkpoint)
    if options.checkpoint == RANDOM:
        checkpoint = make_random(options.work / RANDOM, Path(options.tokenizer))
    pythons = {"penstock": sys.executable} | {
        name: getattr(options, name) for name in ("genai", "transformers", "llama")
    }
    with contest(options.contestants, pythons, checkpoint, options.work, options.threads) as peers:
        if not options.prepare:
            measure(peers, checkpoint, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="models and results go here")
    parser.add_argument("--checkpoint", required=True, help=f"a safetensors folder, or {RANDOM}")
    parser.add_argument("--tokenizer", help=f"a folder whose tokenizer files go to {RANDOM}")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    for name in ("genai", "transformers", "llama"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[0, 1, 4, 16], help="0 measures prompts instead"
    )
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--steps", type=int, default=18, help="timed steps a round")
    parser.add_argument("--before", type=int, default=2, help="untimed steps before those")
    parser.add_argument("--sets", type=int, default=1, help="how often to begin again at 512")
    parser.add_argument(
        "--seconds", type=float, default=inf, help="begin no round later than this after the start"
    )
    parser.add_argument("--prepare", action="store_true", help="only make and open the models")
    return parser.parse_args()


def measure(peers: list[Peer], checkpoint: Path, options: argparse.Namespace) -> None:
    vocab = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    for batch in options.batches:
        for _ in range(options.sets if batch else 1):
            kept = {
                "model": checkpoint.name,
                "batch": batch,
                "threads": options.threads,
                "steps": options.steps + options.before,
                "date": date.today().isoformat(),
                "read_bytes_s": read_bytes_s(options.threads),
                "about": {peer.name: peer.about for peer in peers},
                "tokens": {},
                "seconds": {},
            }
            measured = (
                decoding(peers, batch, vocab, options) if batch else prompts(peers, vocab, options)
            )
            kept["seconds"], kept["tokens"] = measured
            with (options.work / "engine.jsonl").open("a") as out:
                out.write(json.dumps(kept) + "\n")
            show(kept)


Measured = tuple[dict[str, list[float]], dict[str, list[int]]]


def prompts(peers: list[Peer], vocab: int, options: argparse.Namespace) -> Measured:
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for peer in peers:
        peer.ask("prefill", ids=make_prompt(vocab, 0))
    for number in rounds(options):
        for peer in rotated(peers, number):
            answer = peer.ask("prefill", ids=make_prompt(vocab, number))
            seconds[peer.name].append(answer["seconds"])
    return seconds, {}


def decoding(peers: list[Peer], batch: int, vocab: int, options: argparse.Namespace) -> Measured:
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    tokens = {}
    rows = [make_prompt(vocab, row) for row in range(batch)]
    for peer in peers:
        tokens[peer.name] = peer.ask("open", prompts=rows)["tokens"]
    for number in rounds(options):
        for peer in rotated(peers, number):
            answer = peer.ask("decode", steps=options.steps, before=options.before)
            seconds[peer.name].append(answer["seconds"] / options.steps)
            if number == 0:
                tokens[peer.name] += answer["tokens"]
    for peer in peers:
        peer.ask("close")
    return seconds, tokens


def rounds(options: argparse.Namespace) -> Iterator[int]:
    for number in range(options.rounds):
        if time.perf_counter() - STARTED > options.seconds:
            return
        yield number


def make_prompt(vocab: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(8, vocab, PREFILL).tolist()


def show(kept: dict[str, Any]) -> None:
    what = f"decode B{kept['batch']}" if kept["batch"] else f"prefill {PREFILL}"
    print(f"{kept['model']}, {what}, read {kept['read_bytes_s'] / 1e9:.1f} GB/s")
    for name, values in kept["seconds"].items():
        middle = float(np.median(values))
        speed = (kept["batch"] or PREFILL) / middle
        tokens = kept["tokens"].get(name, [])[-4:]
        print(f"  {name:22} {middle * 1e3:9.2f} ms {speed:8.0f} tok/s  {tokens}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
