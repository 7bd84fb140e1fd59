"""A graph made ready for a device: are its kernels there, and what crosses the bus is made small.

In go lengths as numbers instead of a mask, out comes a shortlist beside the logits. How the graph
keeps its cache is read from the file, not found by a trial as in `layout.py`: on a device past and
present must be one memory from the first run on, and what has no kernel there runs on the CPU
without a word, with the whole cache crossing the bus twice a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from penstock.engine.cuda_lack import Lack
from penstock.engine.layout import Layout
from penstock.engine.shortlist import DOUBT, IDS, VALUES, WIDTH
from penstock.engine.signature import LASTS, LONGEST
from penstock.engine.spec import ModelError

MASK = "attention_mask"
ATTENTION = "GroupQueryAttention"
EXPORT = "make a file for it with `penstock export --device cuda`"
_SIXTEEN_BITS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_BY_INTEGERS = ("MatMulInteger", "DynamicQuantizeLinear")


class DeviceGraph:
    """The graph in one file, without its weights if those lie beside it.

    Raises `ModelError` where it is none, or gives no logits. `width` is that of its shortlist.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._model = onnx.load(file, load_external_data=False)
        except Exception as error:  # protobuf has errors of its own
            raise ModelError(f"onnx cannot read {file}: {error}") from None
        self._graph = self._model.graph
        self._kinds = {each.name: each.type.tensor_type for each in self._graph.output}
        if "logits" not in self._kinds or len(self._kinds["logits"].shape.dim) != 3:
            raise ModelError(f"{file} has no output `logits` of 3 dimensions")
        _, positions, vocab = (each.dim_value for each in self._kinds["logits"].shape.dim)
        self.layout = Layout(in_place=True, last_only=positions == 1, vocab_size=vocab)
        self.width = min(WIDTH, vocab)

    def lack(self) -> Lack | None:
        """Why it is not run on CUDA."""
        operators = {node.op_type for node in self._graph.node}
        if ATTENTION not in operators:
            return Lack(f"the model's cache is not one of {ATTENTION}", EXPORT)
        caches = [each for each in self._graph.input if each.name.startswith("past")]
        if any(each.type.tensor_type.elem_type not in _SIXTEEN_BITS for each in caches):
            return Lack("the model computes attention in float32, where CUDA wants 16 bits", EXPORT)
        if found := operators.intersection(_BY_INTEGERS):
            return Lack(f"CUDA has no {min(found)} for the model's int8 weights", EXPORT)
        if not self.layout.vocab_size:
            return Lack("the model does not state how many logits it gives", EXPORT)
        return None

    def ready(self) -> bytes:
        """The model as a session is to open it; see `Shortlist` for what it gives beside logits."""
        self._take_lengths()
        self._give_shortlist()
        serialised: bytes = self._model.SerializeToString()
        return serialised

    def _take_lengths(self) -> None:
        """Tell attention its lengths by numbers, and drop the mask that they were counted from.

        They change no shape from step to step, which a captured graph must not, and spare three
        kernels a run. A graph that counts them differently for each layer, or asks the mask for
        more, keeps it.
        """
        nodes = [node for node in self._graph.node if node.op_type == ATTENTION]
        counted = {tuple(node.input[5:7]) for node in nodes}
        if len(counted) != 1 or self._uses_of(*counted.pop()) != 2 * len(nodes):
            return
        if any(each.HasField("g") for node in self._graph.node for each in node.attribute):
            return
        for node in nodes:
            node.input[5], node.input[6] = LASTS, LONGEST
        for name, shape in ((LASTS, ["batch"]), (LONGEST, [1])):
            about = helper.make_tensor_value_info(name, TensorProto.INT32, shape)
            self._graph.input.append(about)
        self._drop_unused()

    def _uses_of(self, *names: str) -> int:
        return sum(node.input[:].count(name) for node in self._graph.node for name in names)

    def _drop_unused(self) -> None:
        """Nodes that nothing is made of, and numbers and a mask that no node reads."""
        wanted = {each.name for each in self._graph.output}
        kept = []
        for node in reversed(self._graph.node):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        inputs = [each for each in self._graph.input if each.name in wanted or each.name != MASK]
        numbers = [each for each in self._graph.initializer if each.name in wanted]
        _replace(self._graph.node, kept[::-1])
        _replace(self._graph.input, inputs)
        _replace(self._graph.initializer, numbers)

    def _give_shortlist(self) -> None:
        kind = self._kinds["logits"].elem_type
        self._graph.initializer.extend(
            [
                numpy_helper.from_array(np.array([self.width], np.int64), "shortlist.width"),
                numpy_helper.from_array(np.array([-1], np.int64), "shortlist.axis"),
            ]
        )
        self._graph.node.extend(
            [
                helper.make_node("TopK", ["logits", "shortlist.width"], [VALUES, IDS], axis=-1),
                # 0 for each number, NaN for all else; and a sum loses no NaN, as a maximum may.
                helper.make_node("Sub", ["logits", "logits"], ["shortlist.zeros"]),
                helper.make_node("ReduceSum", ["shortlist.zeros", "shortlist.axis"], [DOUBT]),
            ]
        )
        shape = ["batch", "sequence", "width"]
        for name, each in ((VALUES, kind), (IDS, TensorProto.INT64), (DOUBT, kind)):
            self._graph.output.append(helper.make_tensor_value_info(name, each, shape))


def _replace(field: Any, left: Sequence[Any]) -> None:  # noqa: ANN401
    del field[:]
    field.extend(left)
