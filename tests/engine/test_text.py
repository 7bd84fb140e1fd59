"""Text: never half a character, never any of a stop string, the same for every split."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.engine.text import StopMatcher, TextStream
from penstock.engine.tokenizer import Tokenizer

WILD = "héllo 世界 🎈👩‍👩‍👧‍👦 naïve\u2028\u0085 Ωμέγα ﷽ \ufffd end"


def run(tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...] = ()) -> tuple[list[str], str]:
    """Pieces as they come, and the text as a whole."""
    stream = TextStream(tokenizer.vocabulary, stops)
    pieces = []
    for token_id in ids:
        pieces.append(stream.push(token_id))
        if stream.stop:
            break
    pieces.append(stream.flush())
    return pieces, "".join(pieces)


@settings(max_examples=300)
@given(text=st.text(max_size=60))
@example(text=WILD)
@example(text="\ufffd")
@example(text="a\ufffd\ufffd")
def test_pieces_join_to_the_text_and_hold_no_half_character(
    tokenizer: Tokenizer, text: str
) -> None:
    text = text.encode("utf-8", "replace").decode()
    ids = tokenizer.vocabulary.encode(text, add_special_tokens=False).ids
    pieces, whole = run(tokenizer, ids)
    assert whole == tokenizer.vocabulary.decode(ids, skip_special_tokens=True)
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


@settings(max_examples=200)
@given(ids=st.lists(st.integers(0, 4095), max_size=40))
def test_any_tokens_give_what_they_decode_to_less_an_unfinished_end(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    _, whole = run(tokenizer, ids)
    expected = tokenizer.vocabulary.decode(ids, skip_special_tokens=True)
    assert whole == expected or (
        expected.startswith(whole) and not expected[len(whole) :].strip("\ufffd")
    )


def test_an_unfinished_character_at_the_end_is_dropped_and_what_precedes_it_is_not(
    tokenizer: Tokenizer,
) -> None:
    ids = tokenizer.vocabulary.encode("ab🎈", add_special_tokens=False).ids
    pieces, whole = run(tokenizer, ids[:-1])
    assert whole == "ab"
    assert "\ufffd" not in "".join(pieces)


def test_special_tokens_have_no_text(tokenizer: Tokenizer) -> None:
    assert run(tokenizer, [0, 2, 4])[1] == ""


def matched(text: str, stops: list[str], cuts: set[int]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    out, start = "", 0
    for end in [*sorted(cuts), len(text)]:
        out += matcher.push(text[start:end])
        start = end
        if matcher.matched:
            return out, True
    return out + matcher.flush(), False


def earliest_end(text: str, stops: list[str]) -> int | None:
    """Where the first stop string to be complete begins, found the slow way."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return min(starts)
    return None


small_text = st.text(alphabet="abc", max_size=24)
small_stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=5), min_size=1, max_size=4)


@settings(max_examples=500)
@given(text=small_text, stops=small_stops, cuts=st.sets(st.integers(0, 24)))
def test_text_is_cut_at_the_first_stop_string_whatever_the_split(
    text: str, stops: list[str], cuts: set[int]
) -> None:
    cut = earliest_end(text, stops)
    cuts = {place for place in cuts if place < len(text)}
    assert matched(text, stops, cuts) == (text if cut is None else text[:cut], cut is not None)


@settings(max_examples=300)
@given(text=small_text, stops=small_stops)
def test_nothing_of_a_stop_string_is_given_out_before_it_is_ruled_out(
    text: str, stops: list[str]
) -> None:
    """What is out after each character is a part of what the whole text gives."""
    final, _ = matched(text, stops, set())
    matcher, out = StopMatcher(stops), ""
    for character in text:
        out += matcher.push(character)
        assert final.startswith(out)
        if matcher.matched:
            break


def test_a_stop_string_that_spans_tokens_is_found_and_what_follows_is_dropped(
    tokenizer: Tokenizer,
) -> None:
    ids = tokenizer.vocabulary.encode("one two three four", add_special_tokens=False).ids
    assert run(tokenizer, ids, ("wo thr",))[1] == "one t"
    assert run(tokenizer, ids, ("four!",))[1] == "one two three four"
