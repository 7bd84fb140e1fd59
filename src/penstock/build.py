"""From settings to a service: the one place where the parts are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.devices import Opener
from penstock.engine.engine import Engine
from penstock.engine.grammar import Grammars
from penstock.engine.model import Model, ModelError
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.engine.warmup import warm_up
from penstock.engine_thread import EngineThread
from penstock.grammar_trial import GrammarTrial
from penstock.jobs.job import JobBounds
from penstock.limits import Limits
from penstock.memory import available_bytes
from penstock.models import parse_models
from penstock.pipeline import Pace
from penstock.protocols.speech import Speech
from penstock.protocols.tool_formats import detect
from penstock.schedule import Schedule
from penstock.served import Served
from penstock.service import Service
from penstock.settings import Settings

Report = Callable[[str], None]
"""Told one line before each thing that takes a while."""

MIN_LEN = 128
"""Fewer tokens of prompt and answer are chosen for nobody who has not asked for it."""


def build_service(settings: Settings, report: Report = lambda line: None) -> Service:
    """Load the models and put a service around them. Raises `ModelError`."""
    try:
        folders = parse_models(settings.model)
    except ValueError as error:
        raise ModelError(str(error)) from None
    opener = Opener(settings.device, settings.threads, report)
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
                warm_up(engine, settings.slots)
            except Exception as error:
                raise ModelError(f"{folder} does not decode: {error}") from error
        models.append(serve_engine(settings, name, engine, tokenizer, thread))
    return make_service(settings, models, thread)


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


def free_for_cache(model: Model) -> int:
    """What is free where the model's cache goes, with the model in place."""
    free = model.memory.free_bytes()
    return available_bytes() if free is None else free


def choose_max_len(settings: Settings, model: Model, free_bytes: int, models: int = 1) -> int:
    """Tokens a slot: as set, else all that the model was made for, if its share of memory holds it.

    Raises `ModelError` where that is too little, or what was set is more than all that is free.
    """
    limit = model.spec.max_positions
    column_bytes = settings.slots * model.spec.kv_bytes_per_token
    if settings.max_len:
        chosen, budget_bytes = min(settings.max_len, limit), free_bytes
    else:
        budget_bytes = int(free_bytes * settings.kv_memory_fraction / models)
        chosen = max(min(limit, budget_bytes // column_bytes), min(limit, MIN_LEN))
    if chosen * column_bytes > budget_bytes:
        need = chosen * column_bytes >> 20
        raise ModelError(
            f"{settings.slots} slots of {chosen} tokens need {need} MiB of KV cache, more than "
            f"the {budget_bytes >> 20} MiB there are for it on the {model.device}; "
            + _remedy(budget_bytes // (chosen * model.spec.kv_bytes_per_token))
        )
    return chosen


def _remedy(fitting: int) -> str:
    if fitting:
        return f"lower --slots or --max-len ({fitting} such slots would fit)"
    return "not even one such slot fits: lower --max-len, or take a smaller model"


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
    return Served(
        name=name,
        created=int(engine.model.file.stat().st_mtime),
        tokenizer=tokenizer,
        decoder=decoder,
        admission=Admission(
            slots=settings.slots,
            queue=settings.queue,
            max_streams=settings.max_streams,
            max_streams_per_client=settings.max_streams_per_client,
            waiting=lambda: schedule.waiting - schedule.free,
            displace=decoder.displace,
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
        log_prompts=settings.log_prompts,
    )
