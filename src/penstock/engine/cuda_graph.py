"""A graph made ready for CUDA: whether its kernels are there, and a shortlist as further outputs.

Read from the file and not found by a trial, as `layout.py` does it: on a device past and present
must be one memory from the first run on, and what has no kernel there runs on the CPU without a
word, with the whole cache crossing the bus twice a step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from penstock.engine.cuda_lack import Lack
from penstock.engine.layout import Layout
from penstock.engine.shortlist import DOUBT, IDS, VALUES, WIDTH
from penstock.engine.spec import ModelError

ATTENTION = "GroupQueryAttention"
EXPORT = "make a file for it with `penstock export --device cuda`"
_SIXTEEN_BITS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_BY_INTEGERS = ("MatMulInteger", "DynamicQuantizeLinear")


class CudaGraph:
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

    def with_shortlist(self) -> bytes:
        """The model with `VALUES`, `IDS` and `DOUBT` as outputs too; see `Shortlist`."""
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
        serialised: bytes = self._model.SerializeToString()
        return serialised
