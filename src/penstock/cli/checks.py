"""What `penstock doctor` looks at. Each check says what it found and, if need be, what to do."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import trio

from penstock import __version__
from penstock.build import check_shared, choose_store
from penstock.devices import Opener, lack_of_cuda, why_not
from penstock.engine.cuda_lack import Lack
from penstock.engine.model import Model, ModelError
from penstock.engine.session import CUDA, providers
from penstock.engine.tokenizer import load_tokenizer
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.survey import find_faults
from penstock.jobs.redis.survey import version as store_version
from penstock.models import parse_models
from penstock.settings import Settings, SettingsError
from penstock.sizing import choose_max_len, free_for_cache
from penstock.web.listeners import BindError, bind_all, check_reach

PACKAGES = ("onnxruntime-gpu", "onnxruntime", "trio", "hypercorn", "tokenizers")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class Finding:
    """`advice` is what to do about it; `fatal` is what a server would not start with."""

    what: str
    advice: str = ""
    fatal: bool = False


Check = Callable[[Settings], Iterator[Finding]]


def check_versions(_: Settings) -> Iterator[Finding]:
    system = platform.platform(terse=True)
    yield Finding(f"penstock {__version__}, Python {platform.python_version()} on {system}")
    found = {name: _version(name) for name in PACKAGES}
    yield Finding(", ".join(f"{name} {told}" for name, told in found.items() if told))
    if found["onnxruntime"] and found["onnxruntime-gpu"]:
        yield Finding(
            "onnxruntime and onnxruntime-gpu overwrite each other's files",
            "pip uninstall onnxruntime onnxruntime-gpu, then install penstock again",
        )


def check_providers(settings: Settings) -> Iterator[Finding]:
    """What onnxruntime lists was compiled in; whether it works is another matter."""
    lack = lack_of_cuda() or why_not(CUDA)
    advice = lack.advice if lack and settings.device != "cpu" else ""
    yield Finding(_works(CUDA, lack), advice, fatal=bool(lack) and settings.device == "cuda")
    for provider in providers():
        if provider != CUDA:
            yield Finding(_works(provider, why_not(provider)))


def _works(provider: str, lack: Lack | None) -> str:
    return f"{provider}: {lack.what if lack else 'works'}"


def check_threads(settings: Settings) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    allowed = min(cores, cpu_quota())
    used = settings.threads or cores
    what = f"{allowed:g} of {os.cpu_count()} CPUs may be used; the model runs on "
    what += f"{settings.threads} threads" if settings.threads else "as many as onnxruntime chooses"
    too_many = f"set --threads {max(int(allowed), 1)}: more than there are CPUs wait for each other"
    yield Finding(what, too_many if used > allowed else "")


def check_models(settings: Settings) -> Iterator[Finding]:
    """Opened one after another, as `serve` would, and closed again."""
    try:
        folders = parse_models(settings.model)
    except ValueError as error:
        yield Finding(str(error), "see penstock serve --help", fatal=True)
        return
    told: list[str] = []
    try:
        opener = Opener(
            settings.device, settings.threads, told.append, capture_rows=settings.cuda_graphs
        )
    except ModelError as error:
        yield Finding(str(error), "docs/gpu.md says what it takes", fatal=True)
        return
    for name, folder in folders.items():
        try:
            load_tokenizer(folder)
            model = opener.open(name, folder)
            yield Finding(f"model {name} opens on {model.device} ({model.file})")
            yield _memory(settings, name, model, len(folders))
        except ModelError as error:
            yield Finding(f"model {name}: {error}", "docs/models.md says what works", fatal=True)


def check_address(settings: Settings) -> Iterator[Finding]:
    """Taken for a moment, as `serve` would. Not tried for a UNIX socket: that would replace it."""
    if settings.uds:
        return
    try:
        listeners = bind_all(settings)
    except BindError as error:
        yield Finding(str(error), "stop what listens there, or choose another --port", fatal=True)
        return
    try:
        warning = check_reach(settings, listeners)
        yield Finding(warning or f"port {settings.port} of {settings.host} is free")
    except BindError as error:
        yield Finding(f"{settings.host}:{settings.port} would be open to all", str(error), True)
    finally:
        for listener in listeners:
            listener.close()


def check_store(settings: Settings) -> Iterator[Finding]:
    """Asked what it is, and nothing is changed there. A server starts without it, and waits."""
    try:
        choose_store(settings)
        if settings.role != "all" or settings.workers > 1:
            check_shared(settings)
    except SettingsError as error:
        yield Finding(str(error), "see docs/operating.md", fatal=True)
        return
    if settings.store == "memory":
        yield Finding("jobs are kept in memory, and end with the server")
        return
    from penstock.jobs.redis.absence import AwayError
    from penstock.jobs.redis.link import ask_info

    address = parse_address(settings.store)
    try:
        info = trio.run(ask_info, address)
    except AwayError as error:
        advice = "start it, or correct --store; until then generation is refused"
        yield Finding(f"{address}: {str(error.__cause__).strip()}", advice)
        return
    yield Finding(f"{address} is {store_version(info)}")
    for fault in find_faults(info):
        yield Finding(fault.what, fault.advice)


CHECKS: dict[str, Check] = {
    "versions": check_versions,
    "providers": check_providers,
    "threads": check_threads,
    "models": check_models,
    "address": check_address,
    "store": check_store,
}


def cpu_quota(file: Path = CPU_MAX) -> float:
    """CPUs that a container may use (cgroup v2); infinite without a limit."""
    try:
        quota, period = file.read_text().split()
        return float(quota.replace("max", "inf")) / float(period)
    except (OSError, ValueError):
        return float("inf")


def _memory(settings: Settings, name: str, model: Model, models: int) -> Finding:
    """What the KV cache may grow to. Raises `ModelError` where that does not fit."""
    free = free_for_cache(model)
    chosen, limit = choose_max_len(settings, model, free, models), model.spec.max_positions
    cache_bytes = settings.slots * chosen * model.spec.kv_bytes_per_token
    what = (
        f"model {name}: KV cache of up to {cache_bytes >> 20} MiB for {settings.slots} slots of "
        f"{chosen} tokens; {free >> 20} MiB of memory are free"
    )
    shorter = f"the model was made for {limit} tokens; lower --slots for longer requests"
    return Finding(what, shorter if chosen < limit and not settings.max_len else "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
