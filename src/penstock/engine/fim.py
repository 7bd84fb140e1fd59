"""Fill-in-the-middle: the tokens by which a model was taught to fill a gap, and their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tokenizers import Tokenizer as Vocabulary

# Where the prefix, the suffix and the middle begin; the middle is what the model writes.
_FAMILIES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<PRE>", "<SUF>", "<MID>"),
)
# Mistral's: the suffix comes first, and the middle goes on from the prefix.
_SUFFIX_FIRST = ("[PREFIX]", "[SUFFIX]")


@dataclass(frozen=True, slots=True)
class Fim:
    """Token ids of the marks. Without `middle`, the suffix comes before the prefix."""

    prefix: int
    suffix: int
    middle: int | None = None

    @classmethod
    def find(cls, vocabulary: Vocabulary, config: Mapping[str, Any]) -> Self | None:
        """As the model's own table says, or as the names of its tokens tell; None without any."""
        table = config.get("fim")
        own = [table.get(key) for key in ("prefix", "suffix", "middle")] if table else []
        for names in (own, *_FAMILIES, _SUFFIX_FIRST):
            found = [vocabulary.token_to_id(name) for name in names if isinstance(name, str)]
            ids = [token_id for token_id in found if token_id is not None]
            if len(ids) == len(names) > 0:
                return cls(*ids)
        return None

    def join(self, prefix: list[int], suffix: list[int]) -> list[int]:
        """The prompt at whose end the middle follows."""
        if self.middle is None:
            return [self.suffix, *suffix, self.prefix, *prefix]
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle]
