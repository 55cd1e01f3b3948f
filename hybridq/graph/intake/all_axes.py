"""Resize, Pad and CenterCropPad of some axes written as those of all axes.

ONNX Runtime, which turns integer convolutions to channels last, takes the numbers of some axes for those of all and
refuses the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.edit import TakenNames, attribute, drop_unread_constants

SIZE = "size"  # the other axes keep theirs
Rest = str | float
STEERING: dict[str, dict[int, tuple[Rest, ...]]] = {  # inputs, and what they say of an axis that is left alone
    "Resize": {1: (0, 1), 2: (1,), 3: (SIZE,)},  # the region 0..1, scale 1
    "Pad": {1: (0, 0)},
    "CenterCropPad": {1: (SIZE,)},
}


def write_all_axes(graph: GraphProto) -> None:
    """Write out, in place, all axes of Resize, Pad and CenterCropPad where the number of axes is known.

    What hangs on sizes that are not known, or is computed itself, is computed in front of the node.
    """
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.value_info)}
    writing = _Writing({t.name: t for t in graph.initializer}, TakenNames.of(graph))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in STEERING and (axes := writing.axes_of(node)) and (shape := shapes.get(node.input[0])):
            writing.complete(node, [int(a) % len(shape) for a in axes], shape)
        nodes.extend([*writing.taken_nodes(), node])
    if writing.changed:
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(writing.made)
        drop_unread_constants(graph)


@dataclass(slots=True)
class _Writing:
    """The constants at hand, those that are made, and the nodes that go before the next one."""

    constants: dict[str, TensorProto]
    names: TakenNames
    made: list[TensorProto] = field(default_factory=list)
    before: list[NodeProto] = field(default_factory=list)
    changed: bool = False

    def axes_of(self, node: NodeProto) -> list[int]:
        """The axes that a node names; none where it names none, or computes them."""
        if node.op_type != "Pad":
            return list(attribute(node, "axes", ()))
        name = node.input[3] if len(node.input) > 3 else ""
        return numpy_helper.to_array(self.constants[name]).tolist() if name in self.constants else []

    def taken_nodes(self) -> list[NodeProto]:
        """The nodes made since this was asked."""
        nodes, self.before = self.before, []
        return nodes

    def complete(self, node: NodeProto, axes: Sequence[int], shape: Sequence[int]) -> None:
        """Let one node steer all axes; a Resize that keeps proportions only where its scale says the same."""
        if attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch" and not self._as_scale(
            node, axes, shape
        ):
            return
        for i, rest in STEERING[node.op_type].items():
            name = node.input[i] if i < len(node.input) else ""
            if name and not self._is_empty(name):
                node.input[i] = self._whole(node.input[0], name, rest, axes, shape)
        if node.op_type == "Pad":
            del node.input[3:]
        _drop_attributes(node, "axes")
        self.changed = True

    def _is_empty(self, name: str) -> bool:
        """Whether an input is as good as absent."""
        return name in self.constants and math.prod(self.constants[name].dims) == 0

    def _whole(self, data: str, name: str, rest: Sequence[Rest], axes: Sequence[int], shape: Sequence[int]) -> str:
        """The numbers of some axes with those of the others between; one round of the axes for each of ``rest``."""
        known = name in self.constants and (SIZE not in rest or all(n for a, n in enumerate(shape) if a not in axes))
        if not known:
            return self._computed(data, name, rest, axes, len(shape))
        values = numpy_helper.to_array(self.constants[name])
        full = np.array([shape if r == SIZE else [r] * len(shape) for r in rest], values.dtype)
        full[:, list(axes)] = values.reshape(len(rest), -1)
        return self._constant(full.reshape(-1), f"{name}/all_axes")

    def _computed(self, data: str, name: str, rest: Sequence[Rest], axes: Sequence[int], rank: int) -> str:
        pieces = [
            self._piece(data, name, r, axis, row * len(axes) + axes.index(axis) if axis in axes else None)
            for row, r in enumerate(rest)
            for axis in range(rank)
        ]
        return self._node("Concat", pieces, f"{name}/all_axes", axis=0)

    def _piece(self, data: str, name: str, rest: Rest, axis: int, index: int | None) -> str:
        """The number for one axis, as a vector of one: the given one at ``index``, or what leaves the axis alone."""
        if index is not None:
            place = self._constant(np.array([index], np.int64), f"{name}/{index}")
            return self._node("Gather", [name, place], f"{name}/of_{axis}", axis=0)
        if rest == SIZE:
            return self._node("Shape", [data], f"{data}/size_{axis}", start=axis, end=axis + 1)
        like = self._constant(np.array([rest], np.float32), f"{name}/rest_{axis}")
        return self._node("CastLike", [like, name], f"{name}/of_{axis}")

    def _as_scale(self, node: NodeProto, axes: Sequence[int], shape: Sequence[int]) -> bool:
        """Give a Resize that keeps proportions the scale it comes to; False where the scale gives other sizes."""
        name, sizes = node.input[3], [shape[a] for a in axes]
        if name not in self.constants or not all(sizes):
            return False
        pick = min if attribute(node, "keep_aspect_ratio_policy") == b"not_larger" else max
        scale = np.float32(pick(numpy_helper.to_array(self.constants[name]) / np.array(sizes)))
        if any(int(np.float32(n) * scale) != math.floor(float(scale) * n + 0.5) for n in sizes):
            return False
        node.input[2] = self._constant(np.full(len(axes), scale, np.float32), f"{name}/scale")
        del node.input[3]
        _drop_attributes(node, "keep_aspect_ratio_policy")
        return True

    def _constant(self, values: npt.NDArray[Any], name: str) -> str:
        tensor = numpy_helper.from_array(values, self.names.fresh(name))
        self.constants[tensor.name] = tensor
        self.made.append(tensor)
        return tensor.name

    def _node(self, kind: str, inputs: Sequence[str], name: str, **settings: Any) -> str:
        output = self.names.fresh(name)
        self.before.append(helper.make_node(kind, inputs, [output], name=f"{kind}/{output}", **settings))
        return output


def _drop_attributes(node: NodeProto, *names: str) -> None:
    kept = [a for a in node.attribute if a.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
