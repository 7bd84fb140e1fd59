"""A seeded Poisson trace: continuous batching beside static batches of the same requests.

    python bench/poisson.py --work DIR --checkpoint FOLDER --genai PYTHON

`bench/poisson.json` holds the requests: when each arrives, in units of the mean gap, how long its
prompt is and how many tokens it wants. Penstock replays them through its decoder; onnxruntime-genai
takes all that wait, at most 16, pads them and runs them until the longest is done. `--rate` makes
both busy from the first arrival to the end, so the tokens a second are what each can do.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from intervals import interval
from processes import contest, rotated

TRACE = Path(__file__).with_name("poisson.json")
PAIRS = {"penstock-int8row": "genai-int4", "penstock-fp32": "genai-fp32"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--genai", metavar="PYTHON", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    options = parser.parse_args()
    vocab = json.loads((options.checkpoint / "config.json").read_text())["vocab_size"]
    requests = load(options.rate, vocab)[: options.requests]
    names = [name for pair in options.pairs for name in (pair, PAIRS[pair])]
    pythons = {"penstock": sys.executable, "genai": options.genai}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with contest(names, pythons, options.checkpoint, options.work, options.threads) as peers:
        for number in range(options.rounds):
            for peer in rotated(peers, number):
                found[peer.name].append(peer.ask("trace", requests=requests))
            print(f"round {number + 1}: {last_s(found)}", file=sys.stderr, flush=True)
    with (options.work / "trace.jsonl").open("a") as out:
        out.write(json.dumps({"model": options.checkpoint.name, "found": found}) + "\n")
    report(found, sum(request["output"] for request in requests))


def last_s(found: dict[str, list[dict[str, float]]]) -> str:
    return ", ".join(f"{name} {runs[-1]['seconds']:.2f} s" for name, runs in found.items())


def load(rate: float, vocab: int) -> list[dict[str, Any]]:
    """The requests with their ids, arriving `rate` a second on the average."""
    random = np.random.default_rng(3)
    return [
        {
            "arrival_s": request["arrival"] / rate,
            "ids": random.integers(8, vocab, request["prompt"]).tolist(),
            "output": request["output"],
        }
        for request in json.loads(TRACE.read_text())
    ]


def report(found: dict[str, list[dict[str, float]]], tokens: int) -> None:
    for name, runs in found.items():
        speed = interval([tokens / run["seconds"] for run in runs])
        wait = interval([run["first_token_s"] * 1e3 for run in runs])
        print(f"{name:18} tok/s {speed}   mean wait for the first token, ms {wait}")
    for ours, theirs in PAIRS.items():
        if ours in found:
            ratios = [
                t["seconds"] / o["seconds"] for o, t in zip(found[ours], found[theirs], strict=True)
            ]
            print(f"{ours} / {theirs}: throughput {interval(ratios)} of {len(ratios)} pairs")


def make() -> None:
    """Write the trace: `python -c "import poisson; poisson.make()"` in this folder."""
    random = np.random.default_rng(20261121)
    arrivals = random.exponential(1.0, 96).cumsum()
    prompts = np.exp(random.uniform(np.log(16), np.log(512), 96)).astype(int)
    outputs = np.exp(random.uniform(np.log(8), np.log(256), 96)).astype(int)
    rows = zip(arrivals.round(3).tolist(), prompts.tolist(), outputs.tolist(), strict=True)
    lines = [
        json.dumps(dict(zip(("arrival", "prompt", "output"), row, strict=True))) for row in rows
    ]
    TRACE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
