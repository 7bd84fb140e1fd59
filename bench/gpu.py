"""The engine on a GPU, in one call of less than ten minutes: `python bench/gpu.py --work DIR`.

First what it relies on (`gpu_facts.py`); then models in real shapes with random weights, in
float16: time to the first token, tokens a second by batch, the part of the memory's bandwidth that
a step of one row reaches, and tokens a second through HTTP beside the bare engine. Where torch and
transformers are installed, `generate` and a loop over a captured CUDA graph on the same shapes.

    python bench/gpu.py --work /tmp/gpu --out bench/results     # gpu.json and gpu.svg
    python bench/gpu.py --work /tmp/gpu --device cpu --smoke    # that it runs, in a minute

Whatever does not begin within --seconds is listed as skipped. `--shapes` splits a long measurement:
results are added to those in --out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from delivered import metrics, server
from intervals import interval
from plot import Bar, Panel, svg
from processes import Peer, started
from random_model import SHAPES, make
from readers import read_streams

HERE = Path(__file__).parent
PROMPT = 64
BEFORE, ROUNDS = 4, 3
STARTED = time.perf_counter()
Results = dict[str, Any]


def main() -> None:
    given = parse()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "gpu.json"
    results: Results = json.loads(file.read_text()) if file.exists() else {"shapes": {}}
    results |= {
        "date": date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "gpu": gpu() if given.device == "cuda" else None,
    }
    for shape in given.shapes:
        found = results["shapes"][shape] = {"skipped": []}
        for measure in (facts, first_tokens, decoding, delivered, peers):
            if time.perf_counter() - STARTED > given.seconds:
                found["skipped"].append(measure.__name__)
                continue
            attempt(measure, shape, found, given)
            file.write_text(json.dumps(results, indent=1))
        shutil.rmtree(given.work / shape, ignore_errors=True)
        show(shape, found)
    (given.out / "gpu.svg").write_text(svg(list(panels(results))))
    file.write_text(json.dumps(results, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="models and logs go here")
    parser.add_argument("--out", type=Path, help="results go here; --work if it is not given")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=[name for name in SHAPES if name != "tiny"]
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128, 256])
    parser.add_argument("--prompts", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 32, 64])
    parser.add_argument("--steps", type=int, default=48, help="timed steps a round")
    parser.add_argument("--chunk", type=int, default=512, help="prompt tokens in one run")
    parser.add_argument("--seconds", type=float, default=480, help="begin nothing later than this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch", metavar="PYTHON", help="has torch and transformers")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, a few steps")
    given = parser.parse_args()
    given.out = given.out or given.work
    if given.smoke:
        given.shapes, given.batches, given.streams = ["tiny"], [1, 4], [2]
        given.prompts, given.steps = [64], 4
    if given.torch is None and find_spec("torch") and find_spec("transformers"):
        given.torch = sys.executable
    return given


def attempt(
    measure: Callable[[str, Results, argparse.Namespace], None],
    shape: str,
    found: Results,
    given: argparse.Namespace,
) -> None:
    """One that fails is told of and costs the others nothing."""
    began = time.perf_counter()
    try:
        measure(shape, found, given)
    except (Exception, SystemExit) as error:
        found.setdefault("failed", {})[measure.__name__] = f"{type(error).__name__}: {error}"
    took = time.perf_counter() - began
    print(f"# {shape}: {measure.__name__} took {took:.0f} s", file=sys.stderr, flush=True)


def gpu() -> list[str]:
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()


def facts(shape: str, found: Results, given: argparse.Namespace) -> None:
    folder = given.work / shape
    found["weight_bytes"] = make(shape, folder)
    command = [sys.executable, str(HERE / "gpu_facts.py"), str(folder), given.device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-500:])
    found["facts"] = json.loads(done.stdout)


@contextmanager
def penstock(shape: str, context: int, given: argparse.Namespace) -> Iterator[Peer]:
    script = [sys.executable, str(HERE / "peers" / "run_penstock.py")]
    arguments = [str(given.work / shape), str(given.threads), given.device, str(context)]
    arguments.append(str(given.chunk))
    with started("penstock", script + arguments, given.work / "penstock.log") as peer:
        yield peer


def first_tokens(shape: str, found: Results, given: argparse.Namespace) -> None:
    with penstock(shape, max(given.prompts) + PROMPT, given) as peer:
        found["about"] = peer.about
        found["first_token_s"] = prefills(peer, shape, given)


def prefills(peer: Peer, shape: str, given: argparse.Namespace) -> dict[str, float]:
    """Seconds to the first token of prompts of so many tokens, medians."""
    taken = {}
    for length in given.prompts:
        peer.ask("prefill", ids=prompt(shape, 0, length))
        seconds = [
            peer.ask("prefill", ids=prompt(shape, 1 + each, length))["seconds"]
            for each in range(ROUNDS)
        ]
        taken[str(length)] = median(seconds)
    return taken


def decoding(shape: str, found: Results, given: argparse.Namespace) -> None:
    with penstock(shape, context_of(given), given) as peer:
        found["tokens_s"] = {"penstock": steps(peer, shape, given.batches, given)}
    config, once = SHAPES[shape], found["weight_bytes"]
    if not config["tie_word_embeddings"]:  # of the embedding a step reads one row
        once -= 2 * config["vocab_size"] * config["hidden_size"]
    fastest = max(found["tokens_s"]["penstock"]["1"])
    found["bandwidth_share"] = once * fastest / found["facts"]["bytes_s"]


def context_of(given: argparse.Namespace) -> int:
    return PROMPT + ROUNDS * (given.steps + BEFORE) + 8


def steps(
    peer: Peer, shape: str, batches: list[int], given: argparse.Namespace
) -> dict[str, list[float]]:
    """Tokens a second by batch, one figure a round."""
    made = {}
    for batch in batches:
        peer.ask("open", prompts=[prompt(shape, row, PROMPT) for row in range(batch)])
        rounds = [
            peer.ask("decode", steps=given.steps, before=BEFORE)["seconds"] for _ in range(ROUNDS)
        ]
        peer.ask("close")
        made[str(batch)] = [batch * given.steps / seconds for seconds in rounds]
    return made


def delivered(shape: str, found: Results, given: argparse.Namespace) -> None:
    """Through HTTP, and beside it the engine alone at the same batch."""
    slots = max(given.streams)
    length = context_of(given)
    options = ["--device", given.device, "--max-len", str(length), "--queue", str(slots)]
    options += ["--prefill-chunk", str(given.chunk)]
    tokens = ROUNDS * given.steps
    with server(str(given.work / shape), given.threads, slots, *options) as (_, port):
        read_streams("127.0.0.1", port, streams=slots, max_tokens=BEFORE)
        through = {str(count): over_http(port, count, tokens) for count in given.streams}
    with penstock(shape, length, given) as peer:
        bare = steps(peer, shape, given.streams, given)
    found["delivered"] = {
        count: {"bare": median(bare[count]), "http": made, "ratio": made / median(bare[count])}
        for count, made in through.items()
    }


def over_http(port: int, streams: int, tokens: int) -> float:
    name = "penstock_generated_tokens_total"
    before = metrics(port)[name]
    got = read_streams("127.0.0.1", port, streams=streams, max_tokens=tokens)
    return (metrics(port)[name] - before) / got.wall_s


def peers(shape: str, found: Results, given: argparse.Namespace) -> None:
    if given.torch is None:
        raise SystemExit("torch and transformers are not installed; --torch PYTHON names where")
    for name, batches in (("transformers", [1, 8, 32]), ("torch", given.batches)):
        command = [given.torch, str(HERE / "peers" / f"run_{name}.py"), str(given.work / shape)]
        command += [str(given.threads), "float16", given.device]
        command += [str(max(given.prompts) + context_of(given))] if name == "torch" else []
        kept = [each for each in batches if each in given.batches]
        with started(name, command, given.work / f"{name}.log") as peer:
            found[f"about_{name}"] = peer.about
            found["tokens_s"][name] = steps(peer, shape, kept, given)


def prompt(shape: str, seed: int, length: int) -> list[int]:
    vocab = SHAPES[shape]["vocab_size"]
    return list(map(int, np.random.default_rng(seed).integers(8, vocab, length)))


def panels(results: Results) -> Iterator[Panel]:
    for shape, found in results["shapes"].items():
        for batch in found.get("tokens_s", {}).get("penstock", {}):
            bars = [
                Bar(name, interval(made[batch]))
                for name, made in found["tokens_s"].items()
                if batch in made
            ]
            yield Panel(f"{shape}, batch {batch}", bars)


def show(shape: str, found: Results) -> None:
    print(f"{shape} on {found.get('facts', {}).get('device')}")
    for name, seconds in found.get("first_token_s", {}).items():
        print(f"  first token of {name:>5}: {seconds * 1e3:9.1f} ms")
    for name, made in found.get("tokens_s", {}).items():
        told = "  ".join(f"B{batch} {median(values):.0f}" for batch, values in made.items())
        print(f"  {name:12} tokens/s: {told}")
    for count, made in found.get("delivered", {}).items():
        print(f"  through HTTP, {count} streams: {made['http']:.0f} tokens/s, {made['ratio']:.2f}")
    if share := found.get("bandwidth_share"):
        print(f"  batch 1 reads at {share:.2f} of the memory's pace")
    for name, reason in found.get("failed", {}).items():
        print(f"  {name}: not measured: {reason}")
    for name in found["skipped"]:
        print(f"  {name}: skipped, no time left")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
