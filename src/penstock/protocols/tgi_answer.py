"""Text Generation Inference's answers: an event for each token, or one object at the end.

There is no `[DONE]`: the last token's event carries the end. So a token waits where the end may
follow it at once, or where more of its text is held back, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from json import dumps
from typing import Any

from penstock.events import Delta, Ended, Event, Failed, Finished, Token
from penstock.protocols import sse
from penstock.protocols.openai_logprobs import LEAST
from penstock.protocols.tgi import Asked, tell_error


@dataclass(slots=True)
class Piece:
    """A token and the text that it has completed: none for a special one or a half character."""

    token: Token
    special: bool
    text: str = ""

    def render(self) -> dict[str, Any]:
        logprob = max(LEAST if self.token.logprob is None else self.token.logprob, LEAST)
        return {
            "id": self.token.token_id,
            "text": self.text,
            "logprob": logprob,
            "special": self.special,
        }


class Pieces:
    """Each token once, in order; the texts of the ordinary ones join to the text of the answer."""

    def __init__(self, is_special: Callable[[int], bool]) -> None:
        self._is_special = is_special
        self._waiting: list[Piece] = []

    def delta(self, delta: Delta) -> list[Piece]:
        """What can be told now."""
        self._add(delta.tokens)
        carrier = self._last_ordinary()
        self._waiting[carrier].text += delta.text
        return self._take(len(self._waiting) if delta.settled else carrier)

    def ended(self, ended: Finished) -> list[Piece]:
        """The rest: at least one."""
        self._add(ended.tokens)
        return self._take(len(self._waiting))

    def _add(self, tokens: Sequence[Token]) -> None:
        self._waiting += [Piece(token, self._is_special(token.token_id)) for token in tokens]

    def _last_ordinary(self) -> int:
        ordinary = [i for i, piece in enumerate(self._waiting) if not piece.special]
        return ordinary[-1] if ordinary else len(self._waiting) - 1

    def _take(self, number: int) -> list[Piece]:
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        return taken


class StreamEncoder:
    """Events to server-sent events, one a token, counted from 1."""

    def __init__(self, asked: Asked, is_special: Callable[[int], bool]) -> None:
        self._asked = asked
        self._pieces = Pieces(is_special)
        self._numbers = count(1)
        self._text = [asked.before]

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._text.append(text)
                return b"".join(map(self._event, self._pieces.delta(event)))
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                *pieces, last = self._pieces.ended(event)
                return b"".join(map(self._event, pieces)) + self._event(last, self._end(event))
            case Failed(error):
                return sse.data(tell_error(error)[1])

    def heartbeat(self) -> bytes:
        return sse.KEEP_ALIVE

    def _event(self, piece: Piece, end: str = '"generated_text":null,"details":null') -> bytes:
        return sse.data(
            f'{{"index":{next(self._numbers)},"token":{sse.dump(piece.render())},{end}}}'
        )

    def _end(self, finished: Finished) -> str:
        details = _details(self._asked, finished) | {"input_length": finished.usage.prompt_tokens}
        told = sse.dump(details) if self._asked.details else "null"
        return f'"generated_text":{dumps("".join(self._text))},"details":{told}'


class WholeEncoder:
    """Events to one JSON object, which `listed` puts into a list."""

    def __init__(
        self, asked: Asked, is_special: Callable[[int], bool], *, listed: bool = False
    ) -> None:
        self._asked = asked
        self._listed = listed
        self._pieces = Pieces(is_special)
        self._tokens: list[Piece] = []
        self._text = [asked.before]

    def encode(self, event: Event) -> bytes:
        match event:
            case Delta(text):
                self._text.append(text)
                self._tokens += self._pieces.delta(event)
                return b""
            case Ended():
                raise AssertionError("one answer has no other end")
            case Finished():
                self._tokens += self._pieces.ended(event)
                whole = self._whole(event)
                return sse.dump([whole] if self._listed else whole).encode("ascii")
            case Failed(error):
                return tell_error(error)[1].encode("ascii")

    def heartbeat(self) -> bytes:
        return b""

    def _whole(self, finished: Finished) -> dict[str, Any]:
        told: dict[str, Any] = {"generated_text": "".join(self._text)}
        if self._asked.details:
            tokens = [piece.render() for piece in self._tokens]
            told["details"] = _details(self._asked, finished) | {"prefill": [], "tokens": tokens}
        return told


def _details(asked: Asked, finished: Finished) -> dict[str, Any]:
    reason = {"stop": "eos_token"}.get(finished.finish_reason, finished.finish_reason)
    return {
        "finish_reason": "stop_sequence" if finished.cut else reason,
        "generated_tokens": finished.usage.completion_tokens,
        "seed": None if asked.request.sampling.greedy else asked.request.sampling.seed,
    }


def render_info(name: str, *, places: int, max_len: int, version: str) -> dict[str, Any]:
    """GET /info. `places` is how many requests may be inside, `max_len` the context in tokens."""
    return {
        "model_id": name,
        "model_sha": None,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": places,
        "max_best_of": 1,
        "max_stop_sequences": 4,
        "max_input_tokens": max_len - 1,
        "max_total_tokens": max_len,
        "validation_workers": 1,
        "max_client_batch_size": 1,
        "router": "penstock",
        "version": version,
        "sha": None,
        "docker_label": None,
    }
