"""The engine on a GPU, in one call of less than ten minutes: `python bench/gpu.py --work DIR`.

First what it relies on (`gpu_facts.py`); then models in real shapes with random weights, in
float16: time to the first token, tokens a second by batch, the part of the memory's bandwidth that
a step of one row reaches, and tokens a second through HTTP beside the bare engine; the same with
steps captured as CUDA graphs, and in bfloat16. Where torch and transformers are installed,
`generate` and a loop over a captured CUDA graph on the same shapes.

    python bench/gpu.py --work /dev/shm/gpu --out bench/results     # gpu.json and gpu.svg
    python bench/gpu.py --work /tmp/gpu --device cpu --smoke        # that it runs, in a minute

Parts are run in the order of what they tell (`gpu_budget.py`), and each result is written as soon
as it is had. A part that does not fit any more into --budget-s is listed as skipped, one that fails
or hangs as failed. `--parts` and `--shapes` ask for less: results are added to those in --out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
from delivered import metrics, server
from gpu_budget import PARTS, Budget, order
from gpu_report import show, write_plot
from processes import Peer, started
from random_model import SHAPES, make
from readers import read_streams

from penstock.engine.tokenizer import load_tokenizer

HERE = Path(__file__).parent
PROMPT = 64
BEFORE, ROUNDS = 4, 3
CAPTURED_ROWS = 64
Results = dict[str, Any]


def main() -> None:
    given = parse()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "gpu.json"
    results: Results = json.loads(file.read_text()) if file.exists() else {"shapes": {}}
    results |= about(given)
    budget = Budget(given.budget_s)
    for part, shape in order(given.parts, given.shapes):
        found = results["shapes"].setdefault(shape, {})
        if why := budget.refuses(part, shape):
            found.setdefault("skipped", {})[part] = why
            continue
        found.get("skipped", {}).pop(part, None)
        with budget.spent(part, shape):
            attempt(part, shape, found, given, lambda: write(file, results))
        write(file, results)
    write(file, results)
    show(results)
    shutil.rmtree(given.work / "models", ignore_errors=True)


def write(file: Path, results: Results) -> None:
    file.write_text(json.dumps(results, indent=1))
    with suppress(Exception):  # what is drawn can be drawn again, from the numbers
        write_plot(results, file.with_suffix(".svg"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="models and logs go here")
    parser.add_argument("--out", type=Path, help="results go here; --work if it is not given")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=[name for name in SHAPES if name != "tiny"]
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128, 256])
    parser.add_argument("--prompts", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 32, 64])
    parser.add_argument("--steps", type=int, default=48, help="timed steps a round")
    parser.add_argument("--chunk", type=int, default=512, help="prompt tokens in one run")
    parser.add_argument("--budget-s", type=float, default=540, help="all of it ends within this")
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
    if given.device == "cpu":
        given.parts = [part for part in given.parts if part != "bfloat16"]
    return given


def about(given: argparse.Namespace) -> Results:
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        lines = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        lines = str(error)
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "gpu": lines.splitlines() if given.device == "cuda" else None,
        "versions": {
            "python": sys.version.split()[0],
            "onnxruntime": f"{ort.__version__}, CUDA {ort.cuda_version}",
            "numpy": np.__version__,
        },
    }


def attempt(
    part: str,
    shape: str,
    found: Results,
    given: argparse.Namespace,
    save: Callable[[], None],
) -> None:
    """One that fails is told of and costs the others nothing."""
    found.get("failed", {}).pop(part, None)
    began = time.perf_counter()
    try:
        MEASURES[part](shape, found, given, save)
    except (Exception, SystemExit) as error:
        found.setdefault("failed", {})[part] = f"{type(error).__name__}: {str(error)[-500:]}"
    took = found.setdefault("took_s", {})[part] = round(time.perf_counter() - began, 1)
    print(f"# {shape}: {part} took {took:.0f} s", file=sys.stderr, flush=True)


def made(shape: str, given: argparse.Namespace, dtype: str = "fp16") -> Path:
    """The folder of a shape, made at the first call."""
    folder: Path = given.work / "models" / f"{shape}-{dtype}"
    if not (folder / "made").exists():
        stored = make(shape, folder, dtype)  # type: ignore[arg-type]
        (folder / "made").write_text(str(stored))
    return folder


@contextmanager
def penstock(folder: Path, given: argparse.Namespace, captured: int = 0) -> Iterator[Peer]:
    context = max(given.prompts) + PROMPT
    numbers = [given.threads, given.device, context, given.chunk, captured]
    command = [sys.executable, str(HERE / "gpu_engine.py"), str(folder), *map(str, numbers)]
    with started("penstock", command, given.work / "penstock.log") as peer:
        yield peer


def engine(shape: str, found: Results, given: argparse.Namespace, save: Callable[[], None]) -> None:
    """What it relies on, tokens a second, and seconds to the first token: one load of the model."""
    folder = made(shape, given)
    found["weight_bytes"] = int((folder / "made").read_text())
    with penstock(folder, given) as peer:
        found["about"] = peer.about
        found["facts"] = peer.ask("facts")
        save()
        decode(peer, "penstock", shape, found, given, given.batches, save)
        found["bandwidth_share"] = share(shape, found, "penstock")
        found.setdefault("first_token_s", {})["penstock"] = prefills(peer, shape, given)


def captured(
    shape: str, found: Results, given: argparse.Namespace, save: Callable[[], None]
) -> None:
    batches = [each for each in given.batches if each <= CAPTURED_ROWS]
    with penstock(made(shape, given), given, CAPTURED_ROWS) as peer:
        found["about_captured"] = peer.about
        decode(peer, "captured", shape, found, given, batches, save)
        found["bandwidth_share_captured"] = share(shape, found, "captured")


def bfloat16(
    shape: str, found: Results, given: argparse.Namespace, save: Callable[[], None]
) -> None:
    with penstock(made(shape, given, "bf16"), given) as peer:
        found["facts_bfloat16"] = peer.ask("facts")
        decode(peer, "bfloat16", shape, found, given, given.batches, save)


def share(shape: str, found: Results, name: str) -> float | None:
    """Of the measured pace of the memory, what one row's step reaches by reading weights alone."""
    config, once = SHAPES[shape], found["weight_bytes"]
    if not config["tie_word_embeddings"]:  # of the embedding a step reads one row
        once -= 2 * config["vocab_size"] * config["hidden_size"]
    pace, alone = found["facts"]["bytes_s"], found["tokens_s"][name].get("1")
    return once * max(alone) / pace if alone and isinstance(pace, float) else None


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


def context_of(given: argparse.Namespace) -> int:
    return int(PROMPT + ROUNDS * (given.steps + BEFORE) + 8)


def decode(
    peer: Peer,
    name: str,
    shape: str,
    found: Results,
    given: argparse.Namespace,
    batches: Sequence[int],
    save: Callable[[], None],
) -> None:
    """Tokens a second by batch, one figure a round."""
    kept = found.setdefault("tokens_s", {})[name] = {}
    for batch in batches:
        prompts = [prompt(shape, row, PROMPT) for row in range(batch)]
        peer.ask("open", prompts=prompts, context=context_of(given))
        rounds = [
            peer.ask("decode", steps=given.steps, before=BEFORE)["seconds"] for _ in range(ROUNDS)
        ]
        peer.ask("close")
        kept[str(batch)] = [batch * given.steps / seconds for seconds in rounds]
        save()


def delivered(
    shape: str, found: Results, given: argparse.Namespace, save: Callable[[], None]
) -> None:
    """Through HTTP, and beside it the engine alone: the same prompts and tokens, all timed."""
    slots, folder, tokens = max(given.streams), made(shape, given), 6 * given.steps
    length = tokens + PROMPT
    options = ["--device", given.device, "--max-len", str(length), "--queue", str(slots)]
    # Nobody reads what it would write about each request, and its pipe holds 64 KiB.
    options += ["--prefill-chunk", str(given.chunk), "--log-level", "error"]
    kept = found["delivered"] = {}
    with server(str(folder), given.threads, slots, *options) as (_, port):
        read_streams("127.0.0.1", port, streams=slots, max_tokens=BEFORE)
        for count in given.streams:
            kept[str(count)] = {"http": over_http(port, count, tokens)}
            save()
    ids = load_tokenizer(folder).encode("Once upon a time")
    with penstock(folder, given) as peer:
        peer.ask("whole", prompts=[ids], tokens=BEFORE, context=length)
        for count in given.streams:
            took = peer.ask("whole", prompts=[ids] * count, tokens=tokens, context=length)
            bare, each = count * tokens / took["seconds"], kept[str(count)]
            kept[str(count)] = {"bare": bare, **each, "ratio": each["http"] / bare}
            save()


def over_http(port: int, streams: int, tokens: int) -> float:
    name = "penstock_generated_tokens_total"
    before = metrics(port)[name]
    got = read_streams("127.0.0.1", port, streams=streams, max_tokens=tokens)
    return (metrics(port)[name] - before) / got.wall_s


def peer_of(name: str, batches: Sequence[int]) -> Callable[..., None]:
    """Another engine on the same shape and device."""

    def measure(
        shape: str, found: Results, given: argparse.Namespace, save: Callable[[], None]
    ) -> None:
        if given.torch is None:
            raise SystemExit("torch and transformers are not installed; --torch PYTHON names where")
        command = [given.torch, str(HERE / "peers" / f"run_{name}.py"), str(made(shape, given))]
        command += [str(given.threads), "float16", given.device]
        command += [str(max(given.prompts) + PROMPT)] if name == "torch" else []
        kept = [each for each in given.batches if each in batches]
        with started(name, command, given.work / f"{name}.log") as peer:
            found[f"about_{name}"] = peer.about
            decode(peer, name, shape, found, given, kept, save)
            found[f"about_{name}"] = peer.ask("about")
            found.setdefault("first_token_s", {})[name] = prefills(peer, shape, given)

    return measure


def prompt(shape: str, seed: int, length: int) -> list[int]:
    vocab = SHAPES[shape]["vocab_size"]
    return list(map(int, np.random.default_rng(seed).integers(8, vocab, length)))


MEASURES: dict[str, Callable[[str, Results, argparse.Namespace, Callable[[], None]], None]] = {
    "engine": engine,
    "delivered": delivered,
    "transformers": peer_of("transformers", [1, 8, 32]),
    "torch": peer_of("torch", [1, 8, 32, 128, 256]),
    "captured": captured,
    "bfloat16": bfloat16,
}

if __name__ == "__main__":
    main()
