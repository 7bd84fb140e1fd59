"""An edge and a worker over Redis beside one process in memory, in turns: `python bench/roles.py`.

Both do the same work on the same model and threads; the one that is not measured rests. A gap is
the time between two events of one stream, as its client has them. Only a few words are drawn, so
that each token is an event whatever the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from intervals import interval

from redis_server import redis

WORDS = " a the of and to in was he she it"


@dataclass(frozen=True, slots=True)
class Round:
    tokens_s: float
    first_ms: float
    gap_ms: float
    cpu_us: float
    """Of all its processes, Redis apart, for a token."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where requests go, and the processes that answer them."""

    port: int
    pids: tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--max-len", type=int, default=0)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=100, help="tokens a stream")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fsync", choices=["always", "everysec", "no"], default="always")
    asked = parser.parse_args()
    common = [f"--model={asked.model}", f"--slots={max(asked.streams)}"]
    common += [f"--threads={asked.threads}", f"--max-len={asked.max_len}"]
    with ExitStack() as stack:
        shared = f"--store={stack.enter_context(redis(asked.fsync)).url}"
        memory = stack.enter_context(serving(*common))
        worker = stack.enter_context(serving(*common, shared, "--role=worker"))
        edge = stack.enter_context(serving(*common, shared, "--role=edge"))
        bias = words(memory.port)
        ways = Way(memory.port, memory.pids), Way(edge.port, edge.pids + worker.pids)
        print(f"{os.cpu_count()} cores, {asked.tokens} tokens a stream, fsync {asked.fsync}")
        for streams in asked.streams:
            for way in ways:
                measure(way, streams, 8, bias)
            rounds = []
            for _ in range(asked.rounds):
                rounds.append([measure(way, streams, asked.tokens, bias) for way in ways])
                print(*rounds[-1], file=sys.stderr)
            report(streams, rounds)


@contextmanager
def serving(*options: str) -> Iterator[Way]:
    command = [sys.executable, "-m", "penstock", "serve", "--port=0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    sink = server
    try:
        port = 0
        for line in server.stderr:
            if found := re.search(r" on http://[\d.]+:(\d+)", line):
                port = int(found[1])
            if port and ("the store is there" in line or not any("--store" in o for o in options)):
                break
        # Its log is read by nobody from here on, and must not fill a pipe.
        sink = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        yield Way(port, (server.pid,))
    finally:
        server.terminate()
        server.wait()
        sink.wait()


def words(port: int) -> dict[str, float]:
    """A bias that leaves nothing but `WORDS`."""
    asked = json.dumps({"prompt": WORDS}).encode()
    answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/tokenize", asked)
    return {str(token_id): 100.0 for token_id in json.load(answer)["tokens"]}


def request(tokens: int, bias: dict[str, float]) -> bytes:
    body = json.dumps(
        {
            "prompt": "Once upon a time",
            "max_tokens": tokens,
            "temperature": 0,
            "logit_bias": bias,
            "ignore_eos": True,
            "stream": True,
        }
    )
    head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


def measure(way: Way, streams: int, tokens: int, bias: dict[str, float]) -> Round:
    cpu_s = sum(map(cpu_of, way.pids))
    started = time.perf_counter()
    arrived = read(way.port, streams, request(tokens, bias))
    wall_s = time.perf_counter() - started
    made = streams * tokens
    gaps = [b - a for times in arrived for a, b in pairwise(times)]
    return Round(
        tokens_s=made / wall_s,
        first_ms=1e3 * median(times[0] - started for times in arrived),
        gap_ms=1e3 * median(gaps),
        cpu_us=1e6 * (sum(map(cpu_of, way.pids)) - cpu_s) / made,
    )


def read(port: int, streams: int, asked: bytes) -> list[list[float]]:
    """When each stream had each of its events."""
    arrived: list[list[float]] = [[] for _ in range(streams)]
    with selectors.DefaultSelector() as selector:
        for times in arrived:
            each = socket.create_connection(("127.0.0.1", port))
            each.sendall(asked)
            selector.register(each, selectors.EVENT_READ, times)
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(1 << 16)
                now = time.perf_counter()
                key.data.extend([now] * data.count(b'"finish_reason":null'))
                if not data:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return arrived


def cpu_of(pid: int) -> float:
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(streams: int, rounds: list[list[Round]]) -> None:
    def row(name: str, value: Callable[[Round], float]) -> None:
        memory, roles = ([value(pair[at]) for pair in rounds] for at in (0, 1))
        print(f"  {name:22} {median(memory):9.2f} {median(roles):9.2f}")

    print(f"{streams} streams: one process in memory, edge and worker over Redis")
    row("tokens/s", lambda it: it.tokens_s)
    row("first event, ms", lambda it: it.first_ms)
    row("p50 gap, ms", lambda it: it.gap_ms)
    row("CPU, us/token", lambda it: it.cpu_us)
    print(f"  ratio of tokens/s {interval([b.tokens_s / a.tokens_s for a, b in rounds])}")
    print(f"  added p50 gap, ms {interval([b.gap_ms - a.gap_ms for a, b in rounds])}")


if __name__ == "__main__":
    main()
