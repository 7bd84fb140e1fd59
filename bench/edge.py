"""Tokens a second, CPU a token and fairness of three edges, on one scripted source, in turns.

    python bench/edge.py --uvicorn path/to/env/bin/python

Every token is an event and a write of its own. Uvicorn runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
REQUEST = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
WARM_S = 0.5
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Round:
    tokens_s: float
    cpu_us: float
    fairness: float
    """Tokens of the slowest stream to those of the fastest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uvicorn", help="Python with uvicorn, uvloop, starlette and httptools")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 128, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    commands = {
        "penstock": [sys.executable, str(HERE / "edge_servers.py"), "penstock"],
        "hypercorn": [sys.executable, str(HERE / "edge_servers.py"), "hypercorn"],
    }
    if options.uvicorn:
        commands["uvicorn"] = [options.uvicorn, str(HERE / "edge_uvicorn.py")]
    taken: dict[tuple[str, int], list[Round]] = defaultdict(list)
    for _ in range(options.rounds):
        for clients in options.clients:
            for name, command in commands.items():
                with server(command) as (pid, port):
                    taken[name, clients].append(measure(pid, port, clients, options.seconds))
    show(taken)


def show(taken: dict[tuple[str, int], list[Round]]) -> None:
    print("| clients | edge | tokens/s | CPU µs/token | slowest/fastest |")
    print("|---|---|---|---|---|")
    for (name, clients), rounds in sorted(taken.items(), key=lambda item: item[0][::-1]):
        tokens_s = median(each.tokens_s for each in rounds)
        cpu_us = median(each.cpu_us for each in rounds)
        fairness = median(each.fairness for each in rounds)
        print(f"| {clients} | {name} | {tokens_s:,.0f} | {cpu_us:.1f} | {fairness:.2f} |")


@contextmanager
def server(command: list[str]) -> Iterator[tuple[int, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def measure(pid: int, port: int, clients: int, seconds: float) -> Round:
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
    with selectors.DefaultSelector() as selector:
        for number, each in enumerate(sockets):
            each.sendall(REQUEST)
            each.setblocking(False)
            selector.register(each, selectors.EVENT_READ, number)
        warm(selector, clients)
        cpu_s = cpu_of(pid)
        started = time.perf_counter()
        counts = read(selector, clients, seconds)
        elapsed = time.perf_counter() - started
        cpu_s = cpu_of(pid) - cpu_s
    for each in sockets:
        each.close()
    total = max(1, sum(counts))
    return Round(total / elapsed, 1e6 * cpu_s / total, min(counts) / max(1, *counts))


def warm(selector: selectors.BaseSelector, clients: int) -> None:
    """Read until every stream has begun, and a little longer."""
    begun, deadline = [0] * clients, time.perf_counter() + PATIENCE_S
    while not all(begun):
        assert time.perf_counter() < deadline, "a stream does not begin"
        begun = [
            before + more for before, more in zip(begun, read(selector, clients, 0.1), strict=True)
        ]
    read(selector, clients, WARM_S)


def read(selector: selectors.BaseSelector, clients: int, seconds: float) -> list[int]:
    """Events of each client. Small reads, so that this process is never behind for long."""
    counts = [0] * clients
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        for key, _ in selector.select(0.1):
            assert isinstance(key.fileobj, socket.socket)
            counts[key.data] += key.fileobj.recv(1 << 16).count(b"}\n\n")
    return counts


def cpu_of(pid: int) -> float:
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
