"""What a token id stands for: its bytes, such that those of an answer's tokens join to its text.

A byte-level vocabulary spells bytes in printable characters, the scheme of GPT-2: a byte that
prints stands for itself, the others for the characters from 256 on.
"""

from __future__ import annotations

import re
from functools import cache

from tokenizers import Tokenizer as Vocabulary
from tokenizers.decoders import ByteLevel

_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


class Spelling:
    """Ids to names and bytes, for one vocabulary. A special token has a name and no bytes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        added = vocabulary.get_added_tokens_decoder()
        self._special = {id_: token.content for id_, token in added.items() if token.special}
        self._byte_level = isinstance(vocabulary.decoder, ByteLevel)
        self._anchor = [] if self._byte_level else _anchor(vocabulary)

    def __call__(self, token_id: int) -> tuple[str, bytes]:
        """What to call a token, and what it adds to the text."""
        if name := self._special.get(token_id):
            return name, b""
        raw = self._raw(token_id)
        return _name(raw), raw

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special

    def _raw(self, token_id: int) -> bytes:
        piece = self._vocabulary.id_to_token(token_id)
        if piece is None:  # a model's last layer may be padded beyond the vocabulary
            return b""
        if self._byte_level:
            return _byte_level(piece)
        if fallback := _FALLBACK.fullmatch(piece):
            return bytes.fromhex(fallback[1])
        return self._text(token_id).encode()

    def _text(self, token_id: int) -> str:
        """As it reads after another word: many decoders drop the first space of a text."""
        before: str = self._vocabulary.decode(self._anchor)
        whole: str = self._vocabulary.decode([*self._anchor, token_id])
        return whole[len(before) :]


def _anchor(vocabulary: Vocabulary) -> list[int]:
    ids: list[int] = vocabulary.encode("a", add_special_tokens=False).ids
    return ids[-1:]


def _name(raw: bytes) -> str:
    """The text, or for a part of a character its bytes, as OpenAI spells them."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _byte_level(piece: str) -> bytes:
    """An added token may hold characters outside the scheme; then it stands for itself."""
    known = _bytes()
    try:
        return bytes([known[character] for character in piece])
    except KeyError:
        return piece.encode()


@cache
def _bytes() -> dict[str, int]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {chr(256 + index): byte for index, byte in enumerate(others)}
    return spelled | {chr(byte): byte for byte in printable}
