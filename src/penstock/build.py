"""From settings to a service: the one place where the parts are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.devices import Opener
from penstock.edge_service import EdgeService
from penstock.engine.engine import Engine
from penstock.engine.folder import ModelFolder
from penstock.engine.grammar import Grammars
from penstock.engine.model import Model, ModelError
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.engine.warmup import warm_up
from penstock.engine_thread import EngineThread
from penstock.grammar_trial import GrammarTrial
from penstock.jobs.job import JobBounds
from penstock.jobs.memory import MemoryStore
from penstock.jobs.redis.address import parse_address
from penstock.jobs.store import MakeStore
from penstock.limits import Limits
from penstock.models import parse_models
from penstock.pipeline import Pace
from penstock.protocols.speech import Speech
from penstock.protocols.tool_formats import detect
from penstock.schedule import Schedule
from penstock.served import Offered, Served
from penstock.service import Service
from penstock.settings import Settings, SettingsError
from penstock.sizing import choose_max_len, free_for_cache

Report = Callable[[str], None]
"""Told one line before each thing that takes a while."""


class Common(TypedDict):
    """Arguments that every service takes."""

    limits: Limits
    pace: Pace
    job_bounds: JobBounds
    make_store: MakeStore
    log_prompts: bool


def build_service(settings: Settings, report: Report = lambda line: None) -> Service:
    """Load the models and put a service around them. Raises `ModelError` and `SettingsError`."""
    if settings.role != "all":
        check_shared(settings)
    try:
        folders = parse_models(settings.model)
    except ValueError as error:
        raise ModelError(str(error)) from None
    if settings.role == "edge":
        return make_edge(settings, folders)
    opener = Opener(settings.device, settings.threads, report, capture_rows=settings.cuda_graphs)
    thread = EngineThread()
    models = []
    for name, folder in folders.items():
        tokenizer = load_tokenizer(folder)
        report(f"loading {name} ({folder})")
        model = opener.open(name, folder)
        engine = make_engine(settings, model, len(folders))
        if not settings.max_len and engine.max_len < model.spec.max_positions:
            report(
                f"{name}: {engine.max_len} of {model.spec.max_positions} tokens a slot, which is "
                "what memory allows; lower --slots, or set --max-len"
            )
        if settings.warmup:
            report(f"warming up {name}")
            try:
                warm(engine, settings.slots, thread)
            except Exception as error:
                raise ModelError(f"{folder} does not decode: {error}") from error
        models.append(serve_engine(settings, name, engine, tokenizer, thread))
    return make_service(settings, models, thread)


def warm(engine: Engine, slots: int, thread: EngineThread) -> None:
    """Warm up, for a device on the thread that will decode: what it sets up is that thread's."""
    if engine.model.device == "cpu":
        warm_up(engine, slots)
    else:
        thread.prepare(partial(warm_up, engine, slots))


def make_engine(settings: Settings, model: Model, models: int = 1) -> Engine:
    """The engine of one of `models`, with a KV cache that fits the memory. Raises `ModelError`."""
    try:
        return Engine(
            model,
            slots=settings.slots,
            max_len=choose_max_len(settings, model, free_for_cache(model), models),
            prefill_chunk=settings.prefill_chunk,
            parked_kv_bytes=settings.parked_kv_bytes,
            prefix_cache_bytes=settings.prefix_cache_bytes,
        )
    except MemoryError:
        raise ModelError(
            f"the KV cache of {settings.slots} slots does not fit in memory; "
            "lower --slots or --max-len"
        ) from None


def assemble(settings: Settings, name: str, engine: Engine, tokenizer: Tokenizer) -> Service:
    """A service around one engine that is there already."""
    thread = EngineThread()
    return make_service(settings, [serve_engine(settings, name, engine, tokenizer, thread)], thread)


def serve_engine(
    settings: Settings, name: str, engine: Engine, tokenizer: Tokenizer, thread: EngineThread
) -> Served:
    """A model with a schedule and places of its own, and turns on `thread`."""
    schedule = Schedule(
        settings.slots, lookahead=settings.lookahead, park_grace_s=settings.park_grace_s
    )
    decoder = Decoder(engine, schedule, thread)
    spec = engine.model.spec
    grammars = Grammars(tokenizer.vocabulary, spec.vocab_size, spec.eos_ids)
    admission = Admission(
        slots=settings.slots,
        queue=settings.queue,
        max_streams=settings.max_streams,
        max_streams_per_client=settings.max_streams_per_client,
        waiting=lambda: schedule.waiting - schedule.free,
        displace=decoder.displace,
    )
    return Served(
        name=name,
        created=int(engine.model.file.stat().st_mtime),
        tokenizer=tokenizer,
        speech=make_speech(tokenizer, grammars),
        words=spec.vocab_size,
        max_len=engine.max_len,
        device=engine.model.device,
        places=admission.places,
        default_max_tokens=settings.max_tokens,
        decoder=decoder,
        admission=admission,
        grammars=GrammarTrial(grammars, settings.grammar_compile_s),
    )


def make_speech(tokenizer: Tokenizer, grammars: Grammars) -> Speech:
    """How a model writes what is more than plain text."""
    return Speech(
        detect(tokenizer.template_text, tokenizer.knows),
        thinks="<think>" in tokenizer.template_text,
        opens_thinking=tokenizer.opens_thinking,
        special=grammars.special,
    )


def check_shared(settings: Settings) -> None:
    """Raise `SettingsError` where each process would have jobs of its own."""
    if settings.store == "memory":
        raise SettingsError("jobs of several processes need a store that they share; set --store")


def make_edge(settings: Settings, folders: Mapping[str, Path]) -> EdgeService:
    """A service that knows the models' names and words, and loads none of them."""
    offered = [offer_model(settings, name, path) for name, path in folders.items()]
    return EdgeService(offered, **_common(settings))


def offer_model(settings: Settings, name: str, path: Path) -> Offered:
    """What the files beside a model say of it. Raises `ModelError`."""
    folder, tokenizer = ModelFolder.locate(path), load_tokenizer(path)
    grammars = Grammars(tokenizer.vocabulary, 0, ())
    max_len = settings.max_len or folder.json("config.json").get("max_position_embeddings")
    return Offered(
        name=name,
        created=int(folder.graph.stat().st_mtime),
        tokenizer=tokenizer,
        speech=make_speech(tokenizer, grammars),
        words=grammars.size,
        max_len=max_len if isinstance(max_len, int) else 0,
        device="workers",
        places=min(settings.queue, settings.max_streams),
        default_max_tokens=settings.max_tokens,
    )


def make_service(settings: Settings, models: Sequence[Served], thread: EngineThread) -> Service:
    return Service(models, thread, **_common(settings))


def _common(settings: Settings) -> Common:
    """What a service needs to know, with models or without."""
    return Common(
        limits=Limits(
            settings.max_choices,
            settings.max_body_bytes,
            settings.body_deadline_s,
            settings.queue_deadline_s,
            settings.total_deadline_s,
            settings.tokens_per_minute,
        ),
        pace=Pace(settings.heartbeat_s, settings.stall_deadline_s, settings.min_drain_bytes_s),
        job_bounds=JobBounds(
            window=settings.job_window,
            wall_s=settings.job_wall_s,
            keep_s=settings.job_keep_s,
            resume_window_s=settings.resume_window_s,
            max_jobs=settings.max_jobs,
            log_bytes=settings.job_log_bytes,
        ),
        make_store=choose_store(settings),
        log_prompts=settings.log_prompts,
    )


def choose_store(settings: Settings) -> MakeStore:
    """Where jobs are kept. Raises `SettingsError`."""
    if settings.store == "memory":
        return MemoryStore
    try:
        address = parse_address(settings.store)
        # Here, so that whoever keeps jobs in memory needs no client of Redis.
        from penstock.jobs.redis.store import RedisStore
    except ValueError as error:
        raise SettingsError(f"store: {error}") from None
    except ImportError:
        raise SettingsError("store: install penstock[redis] to keep jobs in Redis") from None
    return partial(RedisStore, address, lease_s=settings.lease_s, line=settings.queue)
