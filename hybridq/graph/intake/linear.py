"""A MatMul and the Add of its bias as one Gemm, under names that the given file has.

ONNX Runtime fuses them too, and names what it makes itself. Here the Gemm writes the Add's tensor, as rows: a linear
layer of a transformer is ``Reshape, Gemm, Reshape``, and only what lies behind the last one gets a name of ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from hybridq.graph import edit
from hybridq.graph.outside import values_of

OPEN = -1  # the size of an axis that is not known
Shape = tuple[int, ...]


def join_linear(graph: GraphProto) -> None:
    """Make a Gemm of each MatMul with constant weights and the Add of a constant bias that alone reads it.

    Of more than two axes all must be known in size, and the result may be an output or read by a subgraph only where it
    has two: a name that must keep its shape cannot stand for rows.
    """
    view = _View(graph)
    for node in list(graph.node):
        pair = view.pair(node)
        if pair is not None:
            view.join(node, *pair)
    if view.back:
        view.finish()


@dataclass
class _View:
    """The graph with look-ups, and what the pass changes."""

    graph: GraphProto
    back: dict[str, list[NodeProto]] = field(default_factory=dict)  # by an Add's output, what takes its place
    gone: set[str] = field(default_factory=set)  # outputs of nodes that are no more
    shaped: dict[str, str] = field(default_factory=dict)  # what readers of rows read instead
    rows: dict[str, Shape] = field(default_factory=dict)  # the shapes of rows

    def __post_init__(self) -> None:
        self.constants = {t.name: t for t in self.graph.initializer}
        self.consumers = edit.consumers(self.graph.node)
        self.names = edit.TakenNames.of(self.graph)
        self.fixed = {o.name for o in self.graph.output}
        self.fixed |= {name for n in self.graph.node for name in edit.outer_reads(n)}
        values = [*self.graph.input, *self.graph.value_info, *self.graph.output]
        self.shapes = {v.name: shape for v in values if (shape := _shape(v)) is not None}

    def pair(self, node: NodeProto) -> tuple[NodeProto, str] | None:
        """The Add behind a MatMul and the name of the bias, if the two are a linear layer."""
        readers = self.consumers.get(node.output[0], ()) if node.op_type == "MatMul" else ()
        if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in self.fixed:
            return None
        add = readers[0]
        bias = next((i for i in add.input if i != node.output[0]), "")
        rows, weight = self.shapes.get(node.input[0], ()), self.constants.get(node.input[1])
        if weight is None or len(weight.dims) != 2 or bias not in self.constants or len(rows) < 2:
            return None
        width = weight.dims[1]
        plain = self.constants[bias].dims[-1:] == [width] and math.prod(self.constants[bias].dims) == width
        kept = len(rows) == 2 or (add.output[0] not in self.fixed and OPEN not in rows)
        suits = plain and kept and self.shapes.get(add.output[0]) == (*rows[:-1], width)
        return (add, bias) if suits else None

    def join(self, product: NodeProto, add: NodeProto, bias: str) -> None:
        """Write the Gemm, between two Reshapes where the product has more than two axes."""
        rows, width = self.shapes[product.input[0]], self.constants[product.input[1]].dims[1]
        source, result = product.input[0], add.output[0]
        gemm = helper.make_node("Gemm", [source, product.input[1], self._flat(bias)], [result], name=product.name)
        made = [gemm]
        if len(rows) > 2:
            count = math.prod(rows[:-1])
            gemm.input[0] = self._value(f"{source}/rows", (count, rows[-1]))
            self.shaped[result] = self._value(f"{result}/shaped", (*rows[:-1], width))
            self.rows[result] = (count, width)
            before, after = self._constant(gemm.input[0]), self._constant(self.shaped[result])
            made.insert(0, _reshape(source, before, gemm.input[0]))
            made.append(_reshape(result, after, self.shaped[result]))
        self.gone.add(product.output[0])
        self.back[result] = made

    def _value(self, name: str, shape: Shape) -> str:
        """A name of its own for a new tensor of this shape."""
        made = self.names.fresh(name)
        self.shapes[made] = shape
        self.graph.value_info.append(helper.make_tensor_value_info(made, TensorProto.FLOAT, shape))
        return made

    def _constant(self, tensor: str) -> str:
        """The shape of a tensor as a constant."""
        made = self.names.fresh(f"{tensor}/shape")
        self.graph.initializer.append(numpy_helper.from_array(np.array(self.shapes[tensor], np.int64), made))
        return made

    def _flat(self, bias: str) -> str:
        """A bias of one axis."""
        if len(self.constants[bias].dims) == 1:
            return bias
        made = self.names.fresh(f"{bias}/flat")
        values = values_of(self.constants[bias]).reshape(-1)
        self.graph.initializer.append(numpy_helper.from_array(values, made))
        return made

    def finish(self) -> None:
        """Write the nodes; whoever read a result that is rows now reads it in its shape."""
        made: list[NodeProto] = []
        for node in self.graph.node:
            if self.gone.isdisjoint(node.output):
                made += self.back.get(node.output[0], [node])
        for node in made:
            own = node.op_type == "Reshape" and node.output[0] in self.shaped.values()
            node.input[:] = [i if own else self.shaped.get(i, i) for i in node.input]
        nodes = [NodeProto.FromString(n.SerializeToString()) for n in made]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        kept = [v for v in self.graph.value_info if v.name not in self.gone | self.shaped.keys()]
        kept += [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in self.rows.items()]
        del self.graph.value_info[:]
        self.graph.value_info.extend(kept)
        edit.drop_unread_constants(self.graph)


def _reshape(tensor: str, shape: str, result: str) -> NodeProto:
    return helper.make_node("Reshape", [tensor, shape], [result], name=f"{result}/Reshape")


def _shape(value: ValueInfoProto) -> Shape | None:
    """A float tensor's shape, an ``OPEN`` size where it is not known; None where the number of axes is not."""
    kind = value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT or not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else OPEN for d in kind.shape.dim)
