"""From settings to a service: the one place where the parts are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.engine.engine import Engine
from penstock.engine.grammar import Grammars
from penstock.engine.model import Model, ModelError, load_model
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.engine.warmup import warm_up
from penstock.engine_thread import EngineThread
from penstock.grammar_trial import GrammarTrial
from penstock.memory import available_bytes
from penstock.models import parse_models
from penstock.pipeline import Pace
from penstock.protocols.speech import Speech
from penstock.protocols.tool_formats import detect
from penstock.schedule import Schedule
from penstock.served import Served
from penstock.service import Limits, Service
from penstock.settings import Settings

Report = Callable[[str], None]
"""Told one line before each thing that takes a while."""

KV_SHARE = 0.5
"""Of the memory that is free, what the KV cache may come to take unless it is told otherwise."""


def build_service(settings: Settings, report: Report = lambda line: None) -> Service:
    """Load the models and put a service around them. Raises `ModelError`."""
    try:
        folders = parse_models(settings.model)
    except ValueError as error:
        raise ModelError(str(error)) from None
    thread = EngineThread()
    share = KV_SHARE / len(folders)
    models = []
    for name, folder in folders.items():
        tokenizer = load_tokenizer(folder)
        report(f"loading {name} ({folder})")
        model = load_model(folder, device=settings.device, threads=settings.threads)
        engine = make_engine(settings, model, share)
        if settings.warmup:
            report(f"warming up {name}")
            warm_up(engine, settings.slots)
        models.append(serve_engine(settings, name, engine, tokenizer, thread))
    return make_service(settings, models, thread)


def make_engine(settings: Settings, model: Model, share: float = KV_SHARE) -> Engine:
    """The engine of `model`, with a KV cache that fits the memory. Raises `ModelError`."""
    try:
        return Engine(
            model,
            slots=settings.slots,
            max_len=choose_max_len(settings, model, int(available_bytes() * share)),
            prefill_chunk=settings.prefill_chunk,
            parked_kv_bytes=settings.parked_kv_bytes,
            prefix_cache_bytes=settings.prefix_cache_bytes,
        )
    except MemoryError:
        raise ModelError(
            f"the KV cache of {settings.slots} slots does not fit in memory; "
            "lower --slots or --max-len"
        ) from None


def choose_max_len(settings: Settings, model: Model, budget_bytes: int) -> int:
    """Tokens a slot: as set, else all that the model was made for, if `budget_bytes` hold it.

    Raises `ModelError` where what was set is more than all of the free memory.
    """
    limit = model.spec.max_positions
    fitting = budget_bytes // (settings.slots * model.spec.kv_bytes_per_token)
    if not settings.max_len:
        return max(min(limit, fitting), min(limit, settings.prefill_chunk))
    chosen = min(settings.max_len, limit)
    if chosen * KV_SHARE > fitting:
        need = chosen * settings.slots * model.spec.kv_bytes_per_token
        raise ModelError(
            f"{settings.slots} slots of {chosen} tokens need {need >> 20} MiB of KV cache, more "
            "than this machine has free; lower --slots or --max-len"
        )
    return chosen


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
    spec = engine.model.spec
    grammars = Grammars(tokenizer.vocabulary, spec.vocab_size, spec.eos_ids)
    return Served(
        name=name,
        created=int(engine.model.file.stat().st_mtime),
        tokenizer=tokenizer,
        decoder=Decoder(engine, schedule, thread),
        admission=Admission(
            slots=settings.slots,
            queue=settings.queue,
            max_streams=settings.max_streams,
            waiting=lambda: schedule.waiting - schedule.free,
        ),
        grammars=GrammarTrial(grammars, settings.grammar_compile_s),
        speech=Speech(
            detect(tokenizer.template_text, tokenizer.knows),
            thinks="<think>" in tokenizer.template_text,
            opens_thinking=tokenizer.opens_thinking,
            special=grammars.special,
        ),
        default_max_tokens=settings.max_tokens,
    )


def make_service(settings: Settings, models: Sequence[Served], thread: EngineThread) -> Service:
    return Service(
        models,
        thread,
        limits=Limits(settings.max_choices, settings.max_body_bytes),
        pace=Pace(settings.heartbeat_s, settings.stall_deadline_s),
    )
