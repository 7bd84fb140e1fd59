"""Tokens a second through HTTP beside the bare engine loop: `python bench/delivered.py`.

Both do the same work (same prompt, same length, greedy) on the same model and threads, in turns, in
one run. Engine-busy is the part of the wall time that the server's engine thread spends in a turn.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from readers import read_streams

from penstock.engine.engine import Engine
from penstock.engine.model import load_model
from penstock.engine.tokenizer import load_tokenizer
from penstock.models import parse_model
from penstock.requests import Prompt, Sampling

PROMPT = "Once upon a time"


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one number of streams."""

    bare_tokens_s: float
    tokens_s: float
    busy: float
    batch: float
    server_cpu_us: float
    client_cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--tokens", type=int, default=400, help="tokens a stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads for the model")
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    bare = Bare(options.model, options.threads, max(options.streams), options.tokens)
    with server(options.model, options.threads, max(options.streams)) as (process, port):
        rounds = [
            (streams, measure(bare, process, port, streams, options.tokens))
            for _ in range(options.rounds)
            for streams in options.streams
        ]
    print(f"{os.cpu_count()} cores, {options.tokens} tokens a stream, medians of {options.rounds}")
    print("streams  bare tok/s  HTTP tok/s  ratio  engine-busy  batch  server us/tok  client CPU")
    for streams in options.streams:
        report(streams, [found for count, found in rounds if count == streams])


class Bare:
    """The engine in a loop, with nobody to deliver to."""

    def __init__(self, model: str, threads: int, slots: int, tokens: int) -> None:
        _, folder = parse_model(model)
        opened = load_model(folder, threads=threads)
        self.engine = Engine(
            opened, slots=slots, max_len=opened.spec.max_positions, prefill_chunk=128
        )
        ids = tuple(load_tokenizer(folder).encode(PROMPT))
        self.prompt = Prompt(ids, tokens, Sampling(temperature=0), seed=0, ignore_eos=True)

    def tokens_s(self, streams: int) -> float:
        started = time.perf_counter()
        sequences = [self.engine.open(self.prompt) for _ in range(streams)]
        for sequence in sequences:
            self.engine.admit(sequence)
            self.engine.prefill(sequence)
        for _ in range(self.prompt.max_tokens - 1):
            self.engine.step(sequences)
        for sequence in sequences:
            self.engine.close(sequence)
        return streams * self.prompt.max_tokens / (time.perf_counter() - started)


@contextmanager
def server(
    model: str, threads: int, slots: int, *options: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "penstock", "serve", "--port", "0", "--slots", str(slots)]
    command += ["--threads", str(threads), "--model", model, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = []
        for banner in process.stderr:
            said.append(banner)
            if "http://" in banner:
                break
        else:
            raise SystemExit(f"the server ended: {''.join(said)[-500:]}")
        match = re.search(r":(\d+)\s*$", banner)
        assert match is not None
        yield process, int(match[1])
    finally:
        process.terminate()
        process.communicate()


def measure(
    bare: Bare, process: subprocess.Popen[str], port: int, streams: int, tokens: int
) -> Round:
    bare_tokens_s = bare.tokens_s(streams)
    before, cpu_before = metrics(port), cpu_s(process.pid)
    got = read_streams("127.0.0.1", port, streams=streams, max_tokens=tokens)
    after, cpu_after = metrics(port), cpu_s(process.pid)
    spent = {name: after[name] - before[name] for name in after if name in before}
    made = spent["penstock_generated_tokens_total"]
    busy_s = spent["penstock_engine_busy_seconds_total"]
    return Round(
        bare_tokens_s=bare_tokens_s,
        tokens_s=made / got.wall_s,
        busy=busy_s / got.wall_s,
        batch=spent["penstock_decode_rows_total"] / spent["penstock_decode_steps_total"],
        server_cpu_us=(cpu_after - cpu_before) / made * 1e6,
        client_cpu=got.client_cpu_s / got.wall_s,
    )


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return {
        name: float(value) for name, value in (line.split() for line in lines if line[0] != "#")
    }


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, all threads, in seconds (Linux)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(streams: int, rounds: list[Round]) -> None:
    def mid(name: str) -> float:
        return median(getattr(found, name) for found in rounds)

    ratio = median(found.tokens_s / found.bare_tokens_s for found in rounds)
    print(
        f"{streams:7}  {mid('bare_tokens_s'):10.0f}  {mid('tokens_s'):10.0f}  {ratio:5.2f}  "
        f"{mid('busy'):11.2f}  {mid('batch'):5.1f}  {mid('server_cpu_us'):13.0f}  "
        f"{mid('client_cpu'):10.2f}"
    )


if __name__ == "__main__":
    main()
