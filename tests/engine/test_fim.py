"""Filling a gap: whose tokens mark it, and in which order the prompt is put together."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Vocabulary
from tokenizers.models import WordLevel

from penstock.engine.chat import TemplateError
from penstock.engine.fim import Fim
from penstock.engine.tokenizer import Tokenizer


def vocabulary_of(*tokens: str) -> Vocabulary:
    made = Vocabulary(WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    made.add_special_tokens([AddedToken(token) for token in tokens])
    return made


@pytest.mark.parametrize(
    "names",
    [
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
        ("<PRE>", "<SUF>", "<MID>"),
    ],
)
def test_families_are_known_by_the_names_of_their_tokens(names: tuple[str, ...]) -> None:
    found = Fim.find(vocabulary_of(*names), {})
    assert found == Fim(prefix=3, suffix=4, middle=5)
    assert found.join([0], [1, 1]) == [3, 0, 4, 1, 1, 5]


def test_the_suffix_comes_first_where_no_token_begins_the_middle() -> None:
    found = Fim.find(vocabulary_of("[PREFIX]", "[SUFFIX]"), {})
    assert found is not None
    assert found.join([0], [1]) == [4, 1, 3, 0]


def test_a_models_own_table_wins() -> None:
    vocabulary = vocabulary_of("<PRE>", "<SUF>", "<MID>", "<one>", "<two>", "<three>")
    table = {"prefix": "<one>", "suffix": "<two>", "middle": "<three>"}
    assert Fim.find(vocabulary, {"fim": table}) == Fim(6, 7, 8)


@pytest.mark.parametrize("table", [{}, {"prefix": "a"}, {"prefix": 1, "suffix": 2, "middle": 3}])
def test_tokens_that_are_not_all_there_are_none(table: dict[str, object]) -> None:
    assert Fim.find(vocabulary_of("<PRE>", "<SUF>"), {"fim": table}) is None


def test_the_embedded_model_fills_gaps_behind_its_first_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_gap("def f():\n    ", "\n")
    text = tokenizer.vocabulary.decode(ids, skip_special_tokens=False)
    assert text == "<|endoftext|><|fim_prefix|>def f():\n    <|fim_suffix|>\n<|fim_middle|>"


def test_a_vocabulary_without_marks_fills_none() -> None:
    with pytest.raises(TemplateError, match="no tokens for filling a gap"):
        Tokenizer(vocabulary_of(), template=None, bos="").encode_gap("a", "b")
