"""``GraphView``: the canonical graph with look-ups, and what its analysis finds as it goes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from hybridq.graph import edit
from hybridq.graph.model import Tensor
from hybridq.graph.states import States


@dataclass(frozen=True)
class Sharing:
    """Which tensors share parameters, as a target has it.

    ``outputs``: values concatenated only to leave the graph share parameters too (NPUs do so); otherwise such a Concat
    runs in float and keeps its inputs apart. Without ``inputs`` every Concat is a layer with parameters of its own.
    ``apart`` names nodes that neither share parameters nor are absorbed.
    """

    outputs: bool = False
    inputs: bool = True
    apart: frozenset[str] = frozenset()


@dataclass
class GraphView:
    """The graph with look-ups, and what the analysis finds as it goes."""

    graph: onnx.GraphProto
    tensors: dict[str, Tensor]
    initializers: dict[str, TensorProto]
    consumers: dict[str, tuple[NodeProto, ...]]
    producers: dict[str, NodeProto]
    outputs: set[str]
    sharing: Sharing
    absorbed: dict[str, NodeProto] = field(default_factory=dict)  # compute node's name -> its activation
    absorbed_names: set[str] = field(default_factory=set)
    members: dict[str, list[str]] = field(default_factory=dict)  # representative -> the tensors of its group
    group: dict[str, str] = field(default_factory=dict)  # tensor -> the representative of its group
    steering: dict[str, str] = field(default_factory=dict)  # tensor that is a parameter -> why it stays float
    states: States = field(default_factory=dict)  # input -> the output of the step before that it takes

    def is_activation(self, name: str) -> bool:
        """Whether a tensor is float32, flows, and so can take a precision."""
        return name in self.tensors and name not in self.initializers and self.tensors[name].dtype == "float32"


def view_of(graph: onnx.GraphProto, sharing: Sharing) -> GraphView:
    """The view of a canonical graph, with nothing found yet."""
    tensors = {}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.HasField("tensor_type"):
            tensors[value.name] = _tensor(value)
    return GraphView(
        graph=graph,
        tensors=tensors,
        initializers={i.name: i for i in graph.initializer},
        consumers=edit.consumers(graph.node),
        producers=edit.producers(graph.node),
        outputs={o.name for o in graph.output},
        sharing=sharing,
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim]
    known = kind.HasField("shape")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name if kind.elem_type else "unknown"
    return Tensor(value.name, tuple(dims) if known else None, dtype)
