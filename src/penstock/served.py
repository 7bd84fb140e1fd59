"""One model as it is served: its name, its words, its decoder, its places."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from penstock.admission import Admission
from penstock.decoder import Decoder
from penstock.engine.chat import OptionError, TemplateError
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import CONTEXT_LENGTH, INVALID_VALUE, PenstockError, invalid, unsupported
from penstock.grammar_trial import GrammarTrial
from penstock.protocols.speech import Speech
from penstock.requests import SEED_LIMIT, GenerateRequest, Prompt

# Below this, encoding takes less than a millisecond and a thread hop is not worth it.
_LARGE_PROMPT_CHARACTERS = 4096

PROMPT_MAX_TOKENS = 64
"""For a plain prompt that names no limit: the same on every route, so that the texts are too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What clients see of a model, wherever it decodes.

    `created` is when the model was made, in seconds since 1970; `words` are its token ids,
    `max_len` its context in tokens, `places` how many requests may be inside. `default_max_tokens`
    is for a chat answer that names no limit.
    """

    name: str
    created: int
    tokenizer: Tokenizer
    speech: Speech
    words: int
    max_len: int
    device: str
    places: int
    default_max_tokens: int
    counting: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(2))
    """For what only counts or spells tokens: it takes no place, so it has turns of its own."""

    def most_tokens(self, request: GenerateRequest) -> int:
        """Of one answer, whatever the prompt."""
        plain = request.messages is None
        return request.max_tokens or (PROMPT_MAX_TOKENS if plain else self.default_max_tokens)

    async def count(self, request: GenerateRequest) -> list[int]:
        """The prompt's token ids, for whoever wants no answer. Raises `PenstockError`."""
        async with self.counting:
            return await self.tokenise(request)

    async def spell(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, special ones included. Raises `PenstockError`."""
        if max(tokens) >= self.words:
            raise invalid("tokens", f"tokens: this model's token ids end at {self.words - 1}")
        decode = partial(self.tokenizer.vocabulary.decode, tokens, skip_special_tokens=False)
        return await trio.to_thread.run_sync(decode, limiter=self.counting)

    async def tokenise(self, request: GenerateRequest) -> list[int]:
        """The prompt's token ids, at least one. Raises `PenstockError`."""
        if request.suffix and self.tokenizer.fim is None:
            message = "suffix: this model was not taught to fill a gap; leave suffix out"
            raise unsupported("suffix", message)
        if request.characters > _LARGE_PROMPT_CHARACTERS:
            return await trio.to_thread.run_sync(self._encode, request)
        return self._encode(request)

    def _encode(self, request: GenerateRequest) -> list[int]:
        field = request.prompt_field
        try:
            if request.messages is not None:
                tools = request.tools.definitions if request.tools else ()
                options = request.template_options
                token_ids = self.tokenizer.encode_chat(request.messages, options, tools)
            elif request.suffix:
                token_ids = self.tokenizer.encode_gap(request.prompt or "", request.suffix)
            else:
                token_ids = self.tokenizer.encode(request.prompt or "")
        except OptionError as error:
            raise invalid("chat_template_kwargs", str(error)) from None
        except TemplateError as error:
            raise invalid(field, str(error)) from None
        if not token_ids:
            raise PenstockError(INVALID_VALUE, f"{field} is empty", param=field)
        if max(token_ids) >= self.words:
            message = f"{field} has a token that this model has no embedding for"
            raise PenstockError(INVALID_VALUE, message, param=field)
        return token_ids[-request.truncate :] if request.truncate else token_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Offered):
    """A model behind its own admission and decoder."""

    decoder: Decoder
    admission: Admission
    grammars: GrammarTrial

    async def prepare(self, request: GenerateRequest) -> Prompt:
        """The request as the engine takes it. Raises `PenstockError`."""
        self._check_bias(request)
        token_ids = await self.tokenise(request)
        grammar = self.speech.grammar(request)
        constraint = None if grammar is None else await self.grammars.compile(grammar)
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
            constraint=constraint,
        )

    def _check_bias(self, request: GenerateRequest) -> None:
        """An id beyond the vocabulary would fail the whole turn, and with it the neighbours."""
        if any(token_id >= self.words for token_id, _ in request.sampling.logit_bias):
            last = self.words - 1
            raise invalid("logit_bias", f"logit_bias: this model's token ids end at {last}")

    def _fit(self, request: GenerateRequest, prompt_tokens: int) -> int:
        """How many tokens to make; what the client asked for must fit the context."""
        room = self.max_len - prompt_tokens
        default = PROMPT_MAX_TOKENS if request.messages is None else self.default_max_tokens
        wanted = request.max_tokens or min(default, max(room, 1))
        if wanted <= room:
            return wanted
        # Clients that shorten a conversation by themselves look for some of these words.
        limit = f"this model's maximum context length is {self.max_len} tokens"
        if room < 1:
            message = f"the prompt is too long: it has {prompt_tokens} tokens, {limit}; shorten it"
            raise PenstockError(CONTEXT_LENGTH, message, param=request.prompt_field)
        raise PenstockError(
            CONTEXT_LENGTH,
            f"the prompt has {prompt_tokens} tokens and max_tokens is {wanted}, {limit}; "
            "shorten the prompt or lower max_tokens",
            param="max_tokens",
        )
