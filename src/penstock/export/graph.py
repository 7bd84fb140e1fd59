"""An ONNX graph under construction: nodes and constants in the order they were added.

Every call returns the name of the tensor it made, so that a model reads as a chain of calls.
Knows no model and no precision.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

_OPSET = 21
_IR_VERSION = 10

Dimension = int | str


class Graph:
    """Collects nodes and constants, then becomes a ModelProto."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def __repr__(self) -> str:
        return f"<Graph of {len(self._nodes)} nodes, {len(self._constants)} constants>"

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Add an initialiser, stored once however often the same name is asked for."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        *outputs: str,
        domain: str = "",
        **attributes: float | Sequence[int],
    ) -> str:
        """Add a node and return its first output; "" stands for an absent input or output."""
        node = helper.make_node(
            operator, inputs, outputs, name=f"{outputs[0]}/{operator}", domain=domain, **attributes
        )
        self._nodes.append(node)
        return outputs[0]

    def model(
        self,
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
        properties: dict[str, str],
    ) -> ModelProto:
        """Freeze into a model; `properties` become its metadata."""
        body = helper.make_graph(
            self._nodes, "decoder", inputs, outputs, list(self._constants.values())
        )
        model = helper.make_model(
            body,
            producer_name="penstock",
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, properties)
        return model


def floats(name: str, *shape: Dimension, dtype: npt.DTypeLike = np.float32) -> ValueInfoProto:
    """Describe an input or output; a string is a dimension known only when running."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)


def integers(name: str, *shape: Dimension) -> ValueInfoProto:
    """Describe an int64 input or output."""
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)
