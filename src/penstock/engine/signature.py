"""A graph's inputs and outputs, by what they are for; or the reason why it cannot be served.

Only names, types and ranks are read here, nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from penstock.engine.spec import ModelError

Array = npt.NDArray[Any]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
}
FLOATS = ("tensor(float)", "tensor(float16)")
BFLOAT16 = "tensor(bfloat16)"
BFLOAT16_BITS = np.dtype(np.uint16)
"""What a cache in bfloat16, which numpy has not, is for whoever only moves it."""
BFLOAT16_TYPE = 16
"""Its number in onnx's TensorProto, which `IOBinding` takes where numpy has no name."""
ElementType = type[Any] | int
PER_TOKEN = ("input_ids", "attention_mask", "position_ids")
LASTS, LONGEST = "lengths.last", "lengths.longest"
"""Of each row the last position of this run; and the length of the longest row after it."""
PER_RUN = (*PER_TOKEN, LASTS, LONGEST)
KEEP = ("num_logits_to_keep", "logits_to_keep")
BRANCH = "use_cache_branch"
CACHES = (
    re.compile(r"(past|present)(_key_values)?[._](?P<layer>\d+)[._](?P<kind>key|value)"),
    re.compile(r"(past|present)_(?P<kind>key|value)s?[._](?P<layer>\d+)"),
)

# The first that matches the name of an input says why the graph is refused.
REFUSED = (
    (
        r"encoder|decoder",
        "is one half of an encoder-decoder",
        "serve a decoder-only model",
    ),
    (
        r"embeds|pixel|image|vision|audio|features|token_type",
        "takes more than text",
        "serve a text-only decoder that takes input_ids",
    ),
    (
        r"conv|ssm|recurrent|mamba|rnn|delta|state",
        "keeps convolution or state-space state beside attention",
        "serve a model with attention layers only",
    ),
)


@dataclass(frozen=True, slots=True)
class Signature:
    """`tokens` maps each input that tells of tokens or of their number to its type.

    `kv` are the input and output name of each cache, layer by layer, key before value;
    `kv_shape` is the shape that all of them have, where known. `kv_dtype` is the type of their
    numbers as numpy holds them, `kv_type` as `IOBinding` calls it.
    """

    tokens: Mapping[str, np.dtype[Any]]
    fixed: Mapping[str, Array]
    branches: bool
    kv: tuple[tuple[str, str], ...]
    kv_shape: tuple[int | str | None, ...]
    kv_dtype: np.dtype[Any]
    kv_type: ElementType
    logits_dtype: np.dtype[Any]

    @property
    def can_pad(self) -> bool:
        """Whether rows of different length may share a run: only where positions are told."""
        return {"attention_mask", "position_ids"} <= set(self.tokens)

    def feed(self, ids: Array, mask: Array, positions: Array) -> dict[str, Array]:
        """All inputs but the caches, in the types that the graph asks for."""
        given = dict(zip(PER_TOKEN, (ids, mask, positions), strict=True))
        told = {
            name: np.ascontiguousarray(given[name], dtype) for name, dtype in self.tokens.items()
        }
        if self.branches:
            told[BRANCH] = np.array([mask.shape[1] > ids.shape[1]])
        return {**told, **self.fixed}


def read_signature(session: ort.InferenceSession, name: str, *, on_cuda: bool = False) -> Signature:
    """Classify the inputs of the graph called `name` in messages. Raises `ModelError`."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    _refuse_known(inputs, name)
    kv = _pair(inputs, outputs, name)
    _refuse_unknown(set(inputs) - {past for past, _ in kv}, name)
    if "logits" not in outputs:
        raise ModelError(f"{name} has no output `logits`; serve a model that generates text")
    past = [inputs[each] for each, _ in kv]
    kv_dtype, kv_type = _cache_type(past[0], name, on_cuda=on_cuda)
    return Signature(
        tokens={each: _dtype(inputs[each], name) for each in PER_RUN if each in inputs},
        fixed={each: _ones(inputs[each]) for each in KEEP if each in inputs},
        branches=BRANCH in inputs,
        kv=kv,
        kv_shape=_common_shape(past, name),
        kv_dtype=kv_dtype,
        kv_type=kv_type,
        logits_dtype=_float(outputs["logits"], "logits", name),
    )


def _refuse_known(inputs: Mapping[str, Any], name: str) -> None:
    for pattern, finding, remedy in REFUSED:
        found = next((each for each in inputs if re.search(pattern, each)), None)
        if found:
            raise ModelError(f"{name} {finding} (input {found}), which is not supported; {remedy}")
    if "input_ids" not in inputs:
        raise ModelError(f"{name} takes no input_ids; serve a decoder that takes token ids")
    if "position_ids" in inputs and len(inputs["position_ids"].shape) != 2:
        shape = inputs["position_ids"].shape
        raise ModelError(
            f"{name} takes position_ids of shape {shape}, which is not supported; "
            "serve a model with one position a token"
        )


def _refuse_unknown(others: set[str], name: str) -> None:
    unknown = others - {*PER_RUN, *KEEP, BRANCH}
    if unknown:
        raise ModelError(
            f"{name} has unsupported inputs {sorted(unknown)}; "
            "make a supported file with `penstock export`"
        )


def _pair(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], name: str
) -> tuple[tuple[str, str], ...]:
    """Match `past*` inputs with `present*` outputs by layer and kind."""
    past = {_place(each): each for each in inputs if each.startswith("past")}
    present = {_place(each): each for each in outputs if each.startswith("present")}
    if not past:
        raise ModelError(
            f"{name} has no KV cache; export it with past key values, "
            "or make a supported file with `penstock export`"
        )
    if None in past or past.keys() != present.keys():
        raise ModelError(
            f"{name} has cache inputs {sorted(past.values())[:2]} without a present key and value "
            "for each; make a supported file with `penstock export`"
        )
    places = sorted(place for place in past if place)
    return tuple((past[place], present[place]) for place in places)


def _place(name: str) -> tuple[int, str] | None:
    """Layer and kind in a name such as `past_key_values.3.value` or `past_key_3`."""
    found = next((match for style in CACHES if (match := style.fullmatch(name))), None)
    return (int(found["layer"]), found["kind"]) if found else None


def _common_shape(past: list[Any], name: str) -> tuple[int | str | None, ...]:
    shapes = {(tuple(node.shape)[1::2], node.type, len(node.shape)) for node in past}
    if len(shapes) > 1 or len(past[0].shape) != 4:
        raise ModelError(
            f"{name} has caches of different or unknown shapes, {past[0].name} {past[0].shape}; "
            "one shape [batch, kv_heads, positions, head_dim] for all layers is supported"
        )
    return tuple(past[0].shape)


def _cache_type(
    node: Any,  # noqa: ANN401
    name: str,
    *,
    on_cuda: bool,
) -> tuple[np.dtype[Any], ElementType]:
    if on_cuda and node.type == BFLOAT16:
        return BFLOAT16_BITS, BFLOAT16_TYPE
    dtype = _float(node, "a KV cache", name)
    return dtype, dtype.type


def _float(node: Any, what: str, name: str) -> np.dtype[Any]:  # noqa: ANN401
    if node.type not in FLOATS:
        raise ModelError(
            f"{name} has {what} of type {node.type} ({node.name}); supported: float32 and float16"
        )
    return DTYPES[node.type]


def _dtype(node: Any, name: str) -> np.dtype[Any]:  # noqa: ANN401
    if node.type not in ("tensor(int64)", "tensor(int32)"):
        raise ModelError(f"{name} takes {node.name} as {node.type}; supported: int64 and int32")
    return DTYPES[node.type]


def _ones(node: Any) -> Array:  # noqa: ANN401
    """One logit is wanted a row; the input is a scalar in some exports, a vector in others."""
    return np.ones([1] * len(node.shape), DTYPES[node.type])
