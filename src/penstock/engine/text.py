"""Token ids to text, piece by piece: never half a character, never a stop string.

Both hold text back: the first the bytes of an unfinished character, the second the longest end of
the text that may still become a stop string.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer as Vocabulary
from tokenizers.decoders import DecodeStream

from penstock.engine.vocabulary import Spelling

UNFINISHED = "\ufffd"


class Detokenizer:
    """Text of a growing sequence of tokens; the pieces joined are the text of them all."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._given = 0
        self._held = 0

    def push(self, token_id: int) -> str:
        """What `token_id` completes; empty while a character is unfinished."""
        self._ids.append(token_id)
        piece = self._stream.step(self._vocabulary, token_id)
        self._held = self._held + 1 if piece is None else 0
        self._given += len(piece or "")
        return piece or ""

    def flush(self) -> str:
        """What is complete of the text still held. An unfinished character is dropped."""
        if not self._held:
            return ""
        whole: str = self._vocabulary.decode(self._ids, skip_special_tokens=True)
        return whole[self._given :].rstrip(UNFINISHED) + UNFINISHED * self._replacements()

    def _replacements(self) -> int:
        """How many at the end are no unfinished character: the model may write U+FFFD itself."""
        spell = Spelling(self._vocabulary)
        raw = b"".join(spell(token_id)[1] for token_id in self._ids[-self._held :])
        complete = getincrementaldecoder("utf-8")("replace").decode(raw)
        return len(complete) - len(complete.rstrip(UNFINISHED))


class StopMatcher:
    """Cuts a text before the first stop string to become complete in it.

    The earliest end wins, then the earliest start, so the outcome does not depend on how the text
    was split into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max((len(stop) for stop in stops), default=0)
        self.held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """What of the text so far can no longer be part of a stop string."""
        if not self._stops:
            return text
        buffer = self.held + text
        found = self._first_match(buffer)
        if found is not None:
            end, start = found
            self.matched, self.held = buffer[start:end], ""
            return buffer[:start]
        keep = self._undecided(buffer)
        self.held = buffer[len(buffer) - keep :]
        return buffer[: len(buffer) - keep]

    def flush(self) -> str:
        """The text held back, once nothing can follow it."""
        held, self.held = self.held, ""
        return held

    def _first_match(self, buffer: str) -> tuple[int, int] | None:
        """Where it ends and where it starts."""
        found = [(start + len(s), start) for s in self._stops if (start := buffer.find(s)) >= 0]
        return min(found, default=None)

    def _undecided(self, buffer: str) -> int:
        """Length of the longest end of `buffer` that begins a stop string."""
        for length in range(min(self._longest - 1, len(buffer)), 0, -1):
            end = buffer[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0


class TextStream:
    """The text of one generation, as tokens arrive."""

    def __init__(
        self, vocabulary: Vocabulary, stops: Sequence[str], shown: Mapping[int, str] | None = None
    ) -> None:
        """`shown` are special tokens, which have no text, and the text to give for them."""
        self._detokenizer = Detokenizer(vocabulary)
        self._matcher = StopMatcher(stops)
        self._shown = shown or {}

    @property
    def stop(self) -> str | None:
        """The stop string that has appeared, once one has."""
        return self._matcher.matched

    @property
    def holding(self) -> bool:
        """Whether complete text is held back, as it may begin a stop string."""
        return bool(self._matcher.held)

    def push(self, token_id: int) -> str:
        piece = self._detokenizer.push(token_id) or self._shown.get(token_id, "")
        return self._matcher.push(piece) if piece else ""

    def flush(self) -> str:
        """The rest, at the end of a generation that met no stop string."""
        if self.stop is not None:
            return ""
        rest = self._matcher.push(self._detokenizer.flush())
        return rest if self.stop is not None else rest + self._matcher.flush()
