"""`penstock bench` against penstock and other servers, on the weights of one checkpoint.

    python bench/servers.py --work DIR --checkpoint FOLDER \\
        --llama llama/bin/python --transformers hf/bin/python [NAME …]
    python bench/servers.py --work DIR --report

One server at a time, two threads each, greedy text completions, end of text ignored. `--llama` has
`llama-cpp-python[server]` and gguf, `--transformers` has torch, transformers, fastapi and uvicorn;
the checkpoint is converted for each. Results stay in DIR, of several runs the calmest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers_report import report

PEERS = Path(__file__).parent / "peers"
PORT = 8473
THREADS = 2
IGNORE_EOS = {"ignore_eos": True, "temperature": 0}
NO_EOS = {"logit_bias": {"0": -100, "4": -100}, "temperature": 0}
"""llama-cpp-python cannot ignore an end; its sampler never draws these two."""

NAMES = (
    "penstock",
    "llama-cpp-python",
    "llama-cpp-python, interrupt_requests off",
    "transformers + FastAPI",
    "transformers + FastAPI, careful",
)
COMMON = ["--text", "--concurrency", "4", "--neighbours", "4"]
PHASES = ["--pairs", "3", "--phase-s", "3", "--settle-s", "1"]
MEASURES = {
    "load": ["--measure", "load", "--duration-s", "15"],
    "stopped": ["--measure", "isolation", "--hold-s", "60", *PHASES],
    "leaving": ["--measure", "isolation", "--leaving", "1", *PHASES],
    "departures": ["--measure", "departures", "--tries", "2"],
}


@dataclass(frozen=True, slots=True)
class Server:
    command: list[str]
    extra: dict[str, Any]


def servers(given: argparse.Namespace) -> list[Server]:
    """How each of `NAMES` is started."""
    model = given.work / "penstock"
    llama = [
        *(given.llama, "-m", "llama_cpp.server", "--model", str(given.work / "model.gguf")),
        *("--n_ctx", "1024", "--n_threads", str(THREADS), "--n_threads_batch", str(THREADS)),
        *("--port", str(PORT), "--verbose", "false"),
    ]
    transformers = [
        *(given.transformers, str(PEERS / "serve_transformers.py")),
        *(str(given.checkpoint), str(PORT), str(THREADS)),
    ]
    penstock = [
        *(sys.executable, "-m", "penstock", "serve", "--model", str(model)),
        *("--port", str(PORT), "--threads", str(THREADS)),
    ]
    return [
        Server(penstock, IGNORE_EOS),
        Server(llama, NO_EOS),
        Server([*llama, "--interrupt_requests", "false"], NO_EOS),
        Server(transformers, IGNORE_EOS),
        Server([*transformers, "--careful"], IGNORE_EOS),
    ]


@contextmanager
def started(server: Server, log: Path) -> Iterator[int]:
    """The server's process id, once it answers."""
    with log.open("w") as out:
        process = subprocess.Popen(server.command, stdout=out, stderr=out)
        try:
            wait(process)
            yield process.pid
        finally:
            process.kill()
            process.wait()


def wait(process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the server does not start: see its log")


def slug_of(name: str) -> str:
    return name.replace(", ", "_").replace(" ", "-")


def measure(name: str, server: Server, work: Path, each: str) -> None:
    """Measure, and keep the result if it is the calmest so far: how late the generator's event loop
    woke tells, on cores that others use as well, one try from another without a look at what it
    found."""
    kept = work / f"{slug_of(name)}.{each}"
    made = work / "made"
    with started(server, kept.with_suffix(f".{each}.log")) as process:
        command = [
            *(sys.executable, "-m", "penstock", "bench", f"http://127.0.0.1:{PORT}"),
            *(*COMMON, *MEASURES[each], "--process", str(process)),
            *("--extra", json.dumps(server.extra)),
            *("--json", f"{made}.json", "--html", f"{made}.html"),
        ]
        print(f"# {name}: {each}", flush=True)
        subprocess.run(command, check=True)
    if lag_of(Path(f"{made}.json")) < lag_of(Path(f"{kept}.json")):
        for kind in ("json", "html"):
            Path(f"{made}.{kind}").replace(f"{kept}.{kind}")


def lag_of(file: Path) -> float:
    if not file.exists():
        return float("inf")
    return float(json.loads(file.read_text())["overhead"]["lag_s"]["p99"])


def results(work: Path, name: str) -> dict[str, Any]:
    """What was found, by what was measured."""
    files = {each: work / f"{slug_of(name)}.{each}.json" for each in MEASURES}
    return {each: json.loads(file.read_text()) for each, file in files.items() if file.exists()}


def convert(given: argparse.Namespace) -> None:
    """The checkpoint as penstock and llama.cpp want it, in 8 bits each."""
    folder, file = given.work / "penstock", given.work / "model.gguf"
    if not folder.exists():
        command = [sys.executable, "-m", "penstock", "export", given.checkpoint, folder]
        subprocess.run(command, check=True)
    if not file.exists() and given.llama:
        script = PEERS / "write_gguf.py"
        subprocess.run([given.llama, script, given.checkpoint, file, "Q8_0", "words"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--llama")
    parser.add_argument("--transformers")
    parser.add_argument("--measure", action="append", choices=list(MEASURES))
    parser.add_argument("--report", action="store_true")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if given.report:
        report({name: results(given.work, name) for name in NAMES})
        return
    given.work.mkdir(parents=True, exist_ok=True)
    convert(given)
    known = dict(zip(NAMES, servers(given), strict=True))
    for name in given.names or known:
        for each in given.measure or MEASURES:
            measure(name, known[name], given.work, each)


if __name__ == "__main__":
    main()
