"""What a server does, whatever the dialect and the wire: generate, list, report, drain."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from penstock import pipeline
from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.engine.text import TextStream
from penstock.engine.tokenizer import TemplateError, Tokenizer
from penstock.errors import (
    CONTEXT_LENGTH,
    INVALID_VALUE,
    MODEL_NOT_FOUND,
    UNAVAILABLE,
    PenstockError,
    invalid,
)
from penstock.gauges import watch_gauges
from penstock.generation import Generation
from penstock.live import Live
from penstock.metrics import Metrics
from penstock.pipeline import Encoder, Pace, Sink
from penstock.requests import SEED_LIMIT, GenerateRequest, Prompt

log = logging.getLogger(__name__)

DEFAULT_ALIAS = "default"
# What clients send when nobody chose a model: huggingface_hub "dummy", text-generation "tgi".
_ANY_MODEL = frozenset({"", DEFAULT_ALIAS, "dummy", "tgi"})
# Below this, encoding takes less than a millisecond and a thread hop is not worth it.
_LARGE_PROMPT_CHARACTERS = 4096

PROMPT_MAX_TOKENS = 64
"""For a plain prompt that names no limit: the same on every route, so that the texts are too."""

TERMINAL_S = 0.5
"""How long the last events of a drain may take to be written."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for: tokens, bytes of a body, and time to send it in."""

    max_len: int
    default_max_tokens: int
    max_body_bytes: int
    body_deadline_s: float = 60.0


class Service:
    """One model behind admission, the decoder and the pipeline."""

    def __init__(
        self,
        *,
        name: str,
        created: int,
        tokenizer: Tokenizer,
        decoder: Decoder,
        admission: Admission,
        limits: Limits,
        pace: Pace,
    ) -> None:
        self.name = name
        self.created = created
        """When the model was made, in seconds since 1970."""
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.admission = admission
        self.limits = limits
        self.pace = pace
        self.metrics = Metrics()
        self._live: set[Live] = set()
        self._idle = trio.Event()
        self.closers: set[Callable[[], None]] = set()
        """Called when a drain is over, for connections that outlive their generations."""
        self._running = False
        watch_gauges(self.metrics, decoder, admission)

    def __repr__(self) -> str:
        return f"<Service {self.name} live={len(self._live)} {self.admission!r} {self.decoder!r}>"

    async def run(self) -> None:
        """Decode for everybody until cancelled."""
        self._running = True
        try:
            await self.decoder.run()
        finally:
            self._running = False

    async def generate(
        self, request: GenerateRequest, encoder: Encoder, sink: Sink, live: Live | None = None
    ) -> Live:
        """Answer one request on `sink`; the terminal event has been written when this returns.

        Resource handling: place, slot and tasks are free when this returns or raises.
        Error handling: raises `PenstockError` for what can be refused before anything is written;
        later failures are written to the sink. Cancelling means that the reader went away.
        """
        live = live or Live()
        with self.admission.place() as place, self._alive(live):
            prompt = await self._prepare(request)
            text = TextStream(self.tokenizer.vocabulary, request.stop)
            source = Generation(self.decoder, prompt, text, place.arrived)
            self.metrics.started.inc()
            try:
                await pipeline.run(live, source, encoder, sink, pace=self.pace)
            finally:
                self._account(live, source)
        return live

    @contextmanager
    def _alive(self, live: Live) -> Iterator[None]:
        """What a drain waits for, and ends if it takes too long."""
        self._live.add(live)
        try:
            yield
        finally:
            self._live.discard(live)
            if self.admission.draining and not self._live:
                self._idle.set()

    def resolve(self, model: str | None) -> str:
        """The served name for what a client asked for. Raises `PenstockError`."""
        asked = model or ""
        if asked == self.name or asked in _ANY_MODEL or asked.startswith(("http://", "https://")):
            return self.name
        raise PenstockError(
            MODEL_NOT_FOUND, f"no such model here; this server has {self.name!r}", param="model"
        )

    def unready(self) -> str | None:
        """Why this server cannot take a request now, or None."""
        if self.admission.draining:
            return "draining"
        return None if self._running else "loading"

    async def drain(self, drain_s: float) -> None:
        """Take no more requests, let streams finish for `drain_s`, then end those still running."""
        self.admission.draining = True
        await self._wait_idle(drain_s)
        error = PenstockError(
            UNAVAILABLE, "the server is shutting down; ask again elsewhere", retry_after_s=5
        )
        for live in self._live:
            live.stop(error)
        await self._wait_idle(TERMINAL_S)
        for close in tuple(self.closers):
            close()

    async def _wait_idle(self, patience_s: float) -> None:
        if self._live:
            with trio.move_on_after(patience_s):
                await self._idle.wait()

    async def _prepare(self, request: GenerateRequest) -> Prompt:
        self._check_bias(request)
        if request.characters > _LARGE_PROMPT_CHARACTERS:
            token_ids = await trio.to_thread.run_sync(self._encode, request)
        else:
            token_ids = self._encode(request)
        sampling = request.sampling
        return Prompt(
            token_ids=tuple(token_ids),
            max_tokens=self._fit(request, len(token_ids)),
            sampling=sampling,
            seed=secrets.randbelow(SEED_LIMIT) if sampling.seed is None else sampling.seed,
            ignore_eos=request.ignore_eos,
            logprobs=request.logprobs,
        )

    def _check_bias(self, request: GenerateRequest) -> None:
        """An id beyond the vocabulary would fail the whole turn, and with it the neighbours."""
        words = self.decoder.engine.model.spec.vocab_size
        if any(token_id >= words for token_id, _ in request.sampling.logit_bias):
            raise invalid("logit_bias", f"logit_bias: this model's token ids end at {words - 1}")

    def _encode(self, request: GenerateRequest) -> list[int]:
        field = request.prompt_field
        try:
            if request.messages is not None:
                token_ids = self.tokenizer.encode_chat(request.messages)
            else:
                token_ids = self.tokenizer.encode(request.prompt or "")
        except TemplateError as error:
            raise PenstockError(INVALID_VALUE, str(error), param=field) from None
        if not token_ids:
            raise PenstockError(INVALID_VALUE, f"{field} is empty", param=field)
        return token_ids

    def _fit(self, request: GenerateRequest, prompt_tokens: int) -> int:
        """How many tokens to make; what the client asked for must fit the context."""
        room = self.limits.max_len - prompt_tokens
        default = PROMPT_MAX_TOKENS if request.messages is None else self.limits.default_max_tokens
        wanted = request.max_tokens or min(default, max(room, 1))
        if wanted <= room:
            return wanted
        raise PenstockError(
            CONTEXT_LENGTH,
            f"the prompt has {prompt_tokens} tokens and max_tokens is {wanted}, but this model's "
            f"context holds {self.limits.max_len}; shorten the prompt or lower max_tokens",
            param=request.prompt_field if room < 1 or not request.max_tokens else "max_tokens",
        )

    def _account(self, live: Live, source: Generation) -> None:
        """The one place where an ending is counted and logged."""
        reason = self.metrics.count_end(live.terminal)
        self.metrics.prompt_tokens.inc(len(source.prompt.token_ids))
        self.metrics.tokens.inc(source.made)
        log.info(
            "generation ended",
            extra={
                "reason": reason,
                "prompt_tokens": len(source.prompt.token_ids),
                "completion_tokens": source.made,
            },
        )
