"""One model as it is served: its name, its words, its decoder, its places."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import trio

from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.engine.tokenizer import TemplateError, Tokenizer
from penstock.errors import CONTEXT_LENGTH, INVALID_VALUE, PenstockError, invalid
from penstock.requests import SEED_LIMIT, GenerateRequest, Prompt

# Below this, encoding takes less than a millisecond and a thread hop is not worth it.
_LARGE_PROMPT_CHARACTERS = 4096

PROMPT_MAX_TOKENS = 64
"""For a plain prompt that names no limit: the same on every route, so that the texts are too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What clients see of a model, wherever it decodes.

    `created` is when the model was made, in seconds since 1970; `default_max_tokens` is for a chat
    answer that names no limit.
    """

    name: str
    created: int
    tokenizer: Tokenizer
    default_max_tokens: int

    def most_tokens(self, request: GenerateRequest) -> int:
        """Of one answer, whatever the prompt."""
        plain = request.messages is None
        return request.max_tokens or (PROMPT_MAX_TOKENS if plain else self.default_max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Offered):
    """A model behind its own admission and decoder."""

    decoder: Decoder
    admission: Admission

    @property
    def max_len(self) -> int:
        """Tokens of prompt and answer together."""
        return self.decoder.engine.max_len

    @property
    def _words(self) -> int:
        return self.decoder.engine.model.spec.vocab_size

    async def prepare(self, request: GenerateRequest) -> Prompt:
        """The request as the engine takes it. Raises `PenstockError`."""
        self._check_bias(request)
        if request.characters > _LARGE_PROMPT_CHARACTERS:
            token_ids = await trio.to_thread.run_sync(self._encode, request)
        else:
            token_ids = self._encode(request)
        sampling = request.sampling.over(self.decoder.engine.model.spec.defaults)
        return Prompt(
            token_ids=tuple(token_ids),
            max_tokens=self._fit(request, len(token_ids)),
            sampling=sampling,
            seed=secrets.randbelow(SEED_LIMIT) if sampling.seed is None else sampling.seed,
            ignore_eos=request.ignore_eos,
            logprobs=request.logprobs,
            n=request.n,
            caller=request.caller,
        )

    def _check_bias(self, request: GenerateRequest) -> None:
        """An id beyond the vocabulary would fail the whole turn, and with it the neighbours."""
        if any(token_id >= self._words for token_id, _ in request.sampling.logit_bias):
            last = self._words - 1
            raise invalid("logit_bias", f"logit_bias: this model's token ids end at {last}")

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
        if max(token_ids) >= self._words:
            message = f"{field} has a token that this model has no embedding for"
            raise PenstockError(INVALID_VALUE, message, param=field)
        return token_ids

    def _fit(self, request: GenerateRequest, prompt_tokens: int) -> int:
        """How many tokens to make; what the client asked for must fit the context."""
        room = self.max_len - prompt_tokens
        default = PROMPT_MAX_TOKENS if request.messages is None else self.default_max_tokens
        wanted = request.max_tokens or min(default, max(room, 1))
        if wanted <= room:
            return wanted
        raise PenstockError(
            CONTEXT_LENGTH,
            f"the prompt has {prompt_tokens} tokens and max_tokens is {wanted}, but this model's "
            f"context holds {self.max_len}; shorten the prompt or lower max_tokens",
            param=request.prompt_field if room < 1 or not request.max_tokens else "max_tokens",
        )
