"""What config.json says about a decoder, and whether this exporter can do it.

A model type is a row of data (`FAMILIES`): its defaults and the settings it must not depart
from. Anything else would export to a graph that runs and is wrong, so it is refused by name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from penstock.export.errors import ExportError

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One model type.

    `defaults` are what the type assumes for a missing field; `supported` lists, for a field,
    the only values whose graph we know. `qkv_bias` adds a bias to queries, keys and values;
    `head_norms` normalises each head's queries and keys before they are rotated.
    """

    defaults: Fields
    supported: Mapping[str, tuple[object, ...]]
    qkv_bias: bool = False
    head_norms: bool = False


_DEFAULTS: Fields = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
_SUPPORTED: Mapping[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "partial_rotary_factor": (None, 1.0),
    "quantization_config": (None,),
    "rope_type": ("default",),
    "sliding_window": (None,),
}


FAMILIES: Mapping[str, Family] = {
    "llama": Family({**_DEFAULTS, "max_position_embeddings": 2048}, _SUPPORTED),
    "mistral": Family(
        {
            **_DEFAULTS,
            "max_position_embeddings": 131072,
            "num_key_value_heads": 8,
            "sliding_window": 4096,
        },
        _SUPPORTED,
    ),
    "qwen2": Family(
        {**_DEFAULTS, "max_position_embeddings": 32768, "use_sliding_window": False},
        {**_SUPPORTED, "attention_bias": (None, True)},
        qkv_bias=True,
    ),
    "qwen3": Family(
        {
            **_DEFAULTS,
            "max_position_embeddings": 32768,
            "head_dim": 128,
            "use_sliding_window": False,
        },
        _SUPPORTED,
        head_norms=True,
    ),
}
_NULLABLE = ("num_key_value_heads", "head_dim", "sliding_window")
"""Where null is a statement of its own, and not the wish for the type's default."""

_HEAD_DIM_MULTIPLE = 16
"""The attention kernel rotates in blocks of this many numbers."""


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The shape of a decoder. Sizes count numbers, `max_positions` counts tokens."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_positions: int
    eps: float
    rope_theta: float
    tied: bool
    qkv_bias: bool = False
    head_norms: bool = False

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ExportError(
                f"config.json: num_attention_heads = {self.heads} is not a multiple of "
                f"num_key_value_heads = {self.kv_heads}"
            )
        if self.head_dim % _HEAD_DIM_MULTIPLE:
            raise ExportError(
                f"config.json: head_dim = {self.head_dim} is not supported; "
                f"supported: multiples of {_HEAD_DIM_MULTIPLE}"
            )

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read `directory`/config.json; ExportError names the field that is wrong."""
        raw = _load(directory / "config.json")
        family = _family(raw)
        fields = _settled(raw, family)
        _refuse_unsupported(fields, family)
        return cls._from(fields, family)

    @classmethod
    def _from(cls, fields: Fields, family: Family) -> Self:
        hidden, heads = _size(fields, "hidden_size"), _size(fields, "num_attention_heads")
        return cls(
            layers=_size(fields, "num_hidden_layers"),
            hidden=hidden,
            intermediate=_size(fields, "intermediate_size"),
            heads=heads,
            kv_heads=_size(fields, "num_key_value_heads", heads),
            head_dim=_size(fields, "head_dim", hidden // heads),
            vocab=_size(fields, "vocab_size"),
            max_positions=_size(fields, "max_position_embeddings"),
            eps=_positive(fields, "rms_norm_eps"),
            rope_theta=_positive(fields, "rope_theta"),
            tied=bool(fields["tie_word_embeddings"]),
            qkv_bias=family.qkv_bias,
            head_norms=family.head_norms,
        )

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint trains; a tied embedding counts once."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        feed_forward = 3 * self.hidden * self.intermediate
        biases = self.head_dim * (self.heads + 2 * self.kv_heads) if self.qkv_bias else 0
        norms = 2 * self.hidden + (2 * self.head_dim if self.head_norms else 0)
        layer = attention + feed_forward + biases + norms
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * layer + self.hidden


def _load(file: Path) -> Fields:
    if not file.is_file():
        raise ExportError(f"no {file.name} in {file.parent}")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{file.name} is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ExportError(f"{file.name} is not a JSON object")
    return raw


def _family(raw: Fields) -> Family:
    model_type = str(raw.get("model_type"))
    if model_type not in FAMILIES:
        raise ExportError(_unsupported("model_type", model_type, tuple(FAMILIES)))
    return FAMILIES[model_type]


def _settled(raw: Fields, family: Family) -> dict[str, Any]:
    """Merge in the defaults, and the rotary settings from wherever this config keeps them."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    given = {name: raw[name] for name in raw if raw[name] is not None or name in _NULLABLE}
    fields = {**family.defaults, **given}
    return {
        **fields,
        **({"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}),
        "rope_type": rope.get("rope_type", rope.get("type", "default")),
        "sliding_window": _window_in_use(fields),
    }


def _window_in_use(fields: Fields) -> int | None:
    """A window as wide as the context, or one that is switched off, is none."""
    window = fields.get("sliding_window")
    if window is None or not fields.get("use_sliding_window", True):
        return None
    return None if window >= fields["max_position_embeddings"] else window


def _refuse_unsupported(fields: Fields, family: Family) -> None:
    for name, values in family.supported.items():
        if fields.get(name) not in values:
            raise ExportError(_unsupported(name, fields.get(name), values))


def _unsupported(field: str, value: object, supported: tuple[object, ...]) -> str:
    allowed = ", ".join("none" if each is None else str(each) for each in supported)
    return f"config.json: {field} = {value!r} is not supported; supported: {allowed}"


def _size(fields: Fields, name: str, default: int | None = None) -> int:
    value = default if fields.get(name) is None else fields[name]
    if type(value) is not int or value < 1:
        raise ExportError(f"config.json: {name} = {value!r} is not a positive whole number")
    return value


def _positive(fields: Fields, name: str) -> float:
    value = fields[name]
    if type(value) not in (int, float) or not value > 0:
        raise ExportError(f"config.json: {name} = {value!r} is not a positive number")
    return float(value)
