"""Bytes of tokens: joined, they are the bytes of the text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders
from tokenizers import Tokenizer as Vocabulary
from tokenizers.models import BPE, WordLevel

from penstock.engine.tokenizer import Tokenizer
from penstock.engine.vocabulary import Spelling

SIZE = 4096


def joined(spelling: Spelling, ids: list[int]) -> bytes:
    return b"".join(spelling(token_id)[1] for token_id in ids)


def test_every_token_of_the_embedded_vocabulary(tokenizer: Tokenizer) -> None:
    spelling = Spelling(tokenizer.vocabulary)
    names = set()
    for token_id in range(SIZE):
        name, raw = spelling(token_id)
        assert raw.decode("utf-8", "replace") == tokenizer.vocabulary.decode([token_id])
        assert bool(raw) == (token_id > 7)
        assert "\ufffd" not in name
        names.add(name)
    assert len(names) == SIZE
    assert spelling(0) == ("<|endoftext|>", b"")
    assert {spelling(token_id)[1] for token_id in range(SIZE)} >= {
        bytes([byte]) for byte in range(256)
    }


@settings(max_examples=300)
@given(text=st.text(max_size=60))
def test_bytes_join_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.vocabulary.encode(text, add_special_tokens=False).ids
    assert joined(Spelling(tokenizer.vocabulary), ids).decode() == text


@settings(max_examples=300)
@given(ids=st.lists(st.integers(0, SIZE - 1), max_size=30))
def test_any_tokens_decode_to_their_bytes(tokenizer: Tokenizer, ids: list[int]) -> None:
    raw = joined(Spelling(tokenizer.vocabulary), ids)
    assert raw.decode("utf-8", "replace") == tokenizer.vocabulary.decode(ids)


def test_a_part_of_a_character_is_named_by_its_bytes(tokenizer: Tokenizer) -> None:
    spelling = Spelling(tokenizer.vocabulary)
    ids = tokenizer.vocabulary.encode("\U0001f388", add_special_tokens=False).ids
    assert len(ids) > 1
    name, raw = spelling(ids[0])
    assert name == "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def test_an_id_beyond_the_vocabulary_is_nothing(tokenizer: Tokenizer) -> None:
    assert Spelling(tokenizer.vocabulary)(10**6) == ("", b"")


def test_an_added_token_outside_the_scheme_stands_for_itself() -> None:
    vocabulary = Vocabulary(BPE({"a": 0, "\u0120": 1}, []))
    vocabulary.decoder = decoders.ByteLevel()
    vocabulary.add_tokens([AddedToken("\u3010 \u3011", special=False)])
    assert Spelling(vocabulary)(2) == ("\u3010 \u3011", "\u3010 \u3011".encode())
    assert Spelling(vocabulary)(1) == (" ", b" ")


def test_a_vocabulary_that_is_not_byte_level() -> None:
    """Spaces as underlines, bytes as <0x..>: a word keeps the space before it."""
    words = {"\u2581one": 0, "\u2581two": 1, "s": 2, "<0xE2>": 3, "a": 4, "[UNK]": 5}
    vocabulary = Vocabulary(WordLevel(words, unk_token="[UNK]"))
    vocabulary.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    spelling = Spelling(vocabulary)
    assert [spelling(token_id)[1] for token_id in range(4)] == [b" one", b" two", b"s", b"\xe2"]
    assert joined(spelling, [4, 1, 2]).decode() == vocabulary.decode([4, 1, 2])
