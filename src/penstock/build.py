"""From settings to a service: the one place where the parts are put together."""

from __future__ import annotations

from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.engine.engine import Engine
from penstock.engine.model import load_model
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.models import parse_model
from penstock.pipeline import Pace
from penstock.schedule import Schedule
from penstock.service import Limits, Service
from penstock.settings import Settings


def build_service(settings: Settings) -> Service:
    """Load the model and put a service around it. Raises `ModelError`."""
    name, folder = parse_model(settings.model)
    model = load_model(folder, device=settings.device, threads=settings.threads)
    tokenizer = load_tokenizer(folder)
    max_len = min(settings.max_len or model.spec.max_positions, model.spec.max_positions)
    engine = Engine(
        model,
        slots=settings.slots,
        max_len=max_len,
        prefill_chunk=settings.prefill_chunk,
        parked_kv_bytes=settings.parked_kv_bytes,
        prefix_cache_bytes=settings.prefix_cache_bytes,
    )
    return assemble(settings, name, engine, tokenizer)


def assemble(settings: Settings, name: str, engine: Engine, tokenizer: Tokenizer) -> Service:
    """A service around an engine that is there already."""
    schedule = Schedule(
        settings.slots, lookahead=settings.lookahead, park_grace_s=settings.park_grace_s
    )
    return Service(
        name=name,
        created=int(engine.model.file.stat().st_mtime),
        tokenizer=tokenizer,
        decoder=Decoder(engine, schedule),
        admission=Admission(
            slots=settings.slots,
            queue=settings.queue,
            max_streams=settings.max_streams,
            waiting=lambda: schedule.waiting - schedule.free,
        ),
        limits=Limits(
            engine.max_len, settings.max_tokens, settings.max_body_bytes, settings.body_deadline_s
        ),
        pace=Pace(settings.heartbeat_s, settings.stall_deadline_s, settings.min_drain_bytes_s),
    )
