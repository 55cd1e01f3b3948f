"""What the readers of a tensor make of its values, where each number makes a number: SiLU, HardSwish, Sigmoid, Relu.

A tensor may reach from -98 to 131, but its only readers are ``x * Sigmoid(x)``, to which all below -8 is the same. The
operators behind a tensor are followed as long as they compute number by number (with constants, or with one another's
results for the same number), written out or not; what then leaves them is a function of one number, kept as a table.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph import edit
from hybridq.graph.model import Group, Model
from hybridq.graph.operators import row_of
from hybridq.graph.runtime import run, session
from hybridq.quant.qparams import Range
from hybridq.storage.weights import Tensors

Values = NDArray[np.float64]
KNOTS = 4097  # of the table, evenly over the range
MOST_NODES = 16  # behind one tensor


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Functions of one number: the rows of ``made``, shape (functions, knots), at ``knots``; linear in between.

    ``steep``: a logarithm, a root or a reciprocal is among what makes them.
    """

    knots: Values
    made: Values
    steep: bool = False

    def of(self, x: Values) -> Values:
        """The functions' values, shape (functions, *x.shape)."""
        return np.stack([np.interp(x, self.knots, row) for row in self.made])


def response(model: Model, weights: Tensors, group: Group, r: Range) -> Response | None:
    """What is made of a group's values within ``r``; None where something reads them as they are."""
    if r.max <= r.min or any(t in model.outputs for t in group.tensors):
        return None
    walk = _Walk(model, weights, group)
    if not walk.follow():
        return None
    leaving = [t for t in walk.inside if t in model.outputs or t in walk.left]
    if not leaving or len(walk.nodes) > MOST_NODES:
        return None
    knots = np.union1d(np.linspace(r.min, r.max, KNOTS), [0.0])
    made = walk.run(knots.astype(np.float32), leaving)
    steep = any(row_of(n).steep for n in walk.nodes)
    return Response(knots, made, steep) if np.isfinite(made).all() else None


@dataclass
class _Walk:
    """The operators behind a group that compute number by number."""

    model: Model
    weights: Tensors
    group: Group
    nodes: list[NodeProto] = field(default_factory=list)
    inside: dict[str, str] = field(default_factory=dict)  # what they make -> the group's tensor that it comes from
    left: set[str] = field(default_factory=set)  # of these, what others read

    def __post_init__(self) -> None:
        self.tensors = set(self.group.tensors)

    def follow(self) -> bool:
        """Let all join that read the group or what was made of it, in graph order; False where one cannot."""
        waiting: list[tuple[int, str]] = []  # by place in the graph: what joins is read by later nodes only
        reached: set[str] = set()

        def readers_of(tensor: str) -> None:
            for node in self.model.consumers.get(tensor, ()):
                if node.name not in reached:
                    reached.add(node.name)
                    heapq.heappush(waiting, (self.model.places[node.name], node.name))

        for tensor in self.group.tensors:
            readers_of(tensor)
        while waiting:
            node = self.model.nodes[heapq.heappop(waiting)[1]]
            if self.reads(node):
                if not self.take(node):
                    return False
                for output in (o for o in node.output if o in self.inside):
                    readers_of(output)
        return True

    def reads(self, node: NodeProto) -> bool:
        """Whether a node reads a value of the group or what was made of it; the group's own movers do not count."""
        return not self.tensors.issuperset(filter(None, node.output)) and any(map(self._is_known, edit.reads(node)))

    def _is_known(self, tensor: str) -> bool:
        return tensor in self.tensors or tensor in self.inside

    def take(self, node: NodeProto) -> bool:
        """Let a node join; False where it reads the group's values in another way."""
        known = [i for i in edit.reads(node) if self._is_known(i)]
        origins = {self.inside.get(i, i) for i in known}
        others = [i for i in edit.reads(node) if i and not self._is_known(i)]
        if row_of(node).pointwise and len(origins) == len(node.output) == 1 and all(map(self._is_number, others)):
            self.nodes.append(node)
            self.inside[node.output[0]] = origins.pop()
            return True
        self.left.update(i for i in known if i in self.inside)
        return all(i in self.inside for i in known)

    def _is_number(self, name: str) -> bool:
        return name in self.weights and self.weights[name].size == 1

    def run(self, knots: NDArray[np.float32], leaving: list[str]) -> Values:
        """The values that leave, shape (tensors, knots)."""
        constants = dict.fromkeys(i for n in self.nodes for i in n.input if i in self.weights)
        held = [numpy_helper.from_array(np.asarray(self.weights[c]).reshape(()), c) for c in constants]
        nodes = [self._renamed(n) for n in self.nodes]
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in leaving]
        graph = helper.make_graph(
            nodes, "readers", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(knots)])], ends, held
        )
        opsets = self.model.proto.opset_import
        made = helper.make_model(graph, opset_imports=opsets, ir_version=self.model.proto.ir_version)
        found = run(session(made, threads=1, level="none"), {"x": knots})
        return np.stack([np.asarray(v, np.float64) for v in found])

    def _renamed(self, node: NodeProto) -> NodeProto:
        copy = NodeProto()
        copy.CopyFrom(node)
        for i, name in enumerate(copy.input):
            copy.input[i] = "x" if name in self.tensors else name
        return copy
