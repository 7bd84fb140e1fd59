"""What the files beside a graph say, where the graph itself cannot: context, EOS ids, sizes.

Model families name the same thing differently; each list of names is tried in order. A
`genai_config.json` was written for the graph beside it, so it goes before `config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.engine.folder import GENAI_CONFIG, ModelFolder
from penstock.engine.spec import ModelError

CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len")
HEADS = ("num_attention_heads", "n_head", "num_heads")
KV_HEADS = ("num_key_value_heads", *HEADS)
SAMPLING = {
    "temperature": (0.0, 100.0),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 1 << 20),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 10.0),
}
HIDDEN = ("hidden_size", "n_embd", "d_model")


class Facts:
    """The configs of one model folder, asked by meaning."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._config = folder.json("config.json")
        genai = folder.json(GENAI_CONFIG)
        self._genai = _section(genai, "model")
        self._decoder = _section(self._genai, "decoder")
        self._generation = folder.json("generation_config.json")
        self._search = _section(genai, "search")

    def context(self) -> int:
        """How many tokens the model was made for. Raises `ModelError` if no file says it."""
        found = _whole(self._genai, ("context_length",)) or _whole(self._config, CONTEXT)
        if found is None:
            raise ModelError(
                f"cannot tell the context length of {self._folder.graph}: neither config.json "
                f"({CONTEXT[0]}) nor {GENAI_CONFIG} lies beside it; copy one there"
            )
        return found

    def kv_heads(self) -> int | None:
        return _whole(self._decoder, KV_HEADS) or _whole(self._config, KV_HEADS)

    def head_dim(self) -> int | None:
        stated = _whole(self._decoder, ("head_size",)) or _whole(self._config, ("head_dim",))
        hidden, heads = _whole(self._config, HIDDEN), _whole(self._config, HEADS)
        return stated or (hidden // heads if hidden and heads else None)

    def eos_ids(self) -> frozenset[int]:
        """The ids that end a text: those for generating before those of training."""
        for source in (self._generation, self._config, self._genai):
            chosen = source.get("eos_token_id")
            if chosen is not None:
                return frozenset([chosen] if isinstance(chosen, int) else chosen)
        return frozenset()

    def defaults(self) -> dict[str, float]:
        """Sampling parameters, as the makers recommend them. Raises `ModelError` for nonsense."""
        source = self._generation or self._search
        stated = {name: source[name] for name in SAMPLING if source.get(name) is not None}
        for name, value in stated.items():
            low, high = SAMPLING[name]
            if type(value) not in (int, float) or not low <= value <= high:
                raise ModelError(
                    f"the generation config beside {self._folder.graph} has a {name} that is no "
                    f"number from {low} to {high}; mend it, or take it out"
                )
        return stated | ({"top_k": int(stated["top_k"])} if "top_k" in stated else {})


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _whole(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and value > 0), None)
