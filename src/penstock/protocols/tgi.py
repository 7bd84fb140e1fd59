"""Text Generation Inference: what may be asked, and how it is refused.

Fields that are unknown are ignored; known ones that would change the result silently are refused.
Without `do_sample` and `temperature` an answer is greedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import PenstockError, invalid
from penstock.protocols.body import decode
from penstock.protocols.common import BOUNDS, Bounds, check_bounds, parse_seed, parse_stop, refuse
from penstock.protocols.constraints import parse_tgi_grammar
from penstock.protocols.sse import dump
from penstock.requests import GenerateRequest, Sampling

NUMBERS: Mapping[str, Bounds] = {
    **BOUNDS,
    "max_new_tokens": BOUNDS["max_tokens"],
    "temperature": Bounds(0, 100, exclusive=True),
    "top_k": Bounds(1, 1 << 20),
    "truncate": Bounds(1, 1 << 20),
    "seed": Bounds(0, 2**64 - 1),
}


class Parameters(msgspec.Struct):
    """How to answer. Null means absent."""

    max_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    return_full_text: bool | None = None
    details: bool | None = None
    decoder_input_details: bool | None = None
    best_of: int | None = None
    truncate: int | None = None
    watermark: bool | None = None
    top_n_tokens: int | None = None
    grammar: dict[str, Any] | None = None
    adapter_id: str | None = None
    ignore_eos: bool | None = None


class GenerateBody(msgspec.Struct):
    """POST /, /generate and /generate_stream."""

    inputs: str | None = None
    parameters: Parameters | None = None
    stream: bool | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and how its answer is to be told. `before` precedes the generated text."""

    request: GenerateRequest
    stream: bool
    details: bool
    before: str = ""


def parse(body: bytes, *, stream: bool | None = None) -> Asked:
    """A request; `stream` wins over what the body says. Raises `PenstockError`."""
    asked = decode(body, GenerateBody)
    if not asked.inputs:
        raise invalid("inputs", "inputs must be a string that is not empty")
    told = asked.parameters or Parameters()
    _check(told)
    streamed = bool(asked.stream) if stream is None else stream
    details = bool(told.details)
    request = GenerateRequest(
        prompt=asked.inputs,
        max_tokens=told.max_new_tokens,
        sampling=_sampling(told),
        stop=parse_stop(told.stop),
        ignore_eos=bool(told.ignore_eos),
        logprobs=0 if streamed or details else None,
        truncate=told.truncate,
        grammar=parse_tgi_grammar(told.grammar),
    )
    return Asked(request, streamed, details, asked.inputs if told.return_full_text else "")


def tell_error(error: PenstockError) -> tuple[int, str]:
    """Status and body. Clients go by `error_type`; it is 422 for what the sender can mend."""
    status, kind = error.kind.status, "validation"
    if status == 429:
        kind = "overloaded"
    elif status == 500:
        status, kind = 424, "generation"
    elif status == 400:
        status = 422
    return status, dump({"error": error.message, "error_type": kind})


def _check(told: Parameters) -> None:
    check_bounds(told, NUMBERS)
    refuse(
        best_of=(told.best_of or 1) > 1,
        decoder_input_details=bool(told.decoder_input_details),
        top_n_tokens=bool(told.top_n_tokens),
        typical_p=told.typical_p not in (None, 1),
        watermark=bool(told.watermark),
        adapter_id=told.adapter_id is not None,
    )


def _sampling(told: Parameters) -> Sampling:
    greedy = told.temperature is None and not told.do_sample
    return Sampling.of(
        temperature=0.0 if greedy else told.temperature,
        top_k=told.top_k,
        top_p=told.top_p,
        repetition_penalty=told.repetition_penalty,
        frequency_penalty=told.frequency_penalty,
        seed=parse_seed(told.seed),
    )
