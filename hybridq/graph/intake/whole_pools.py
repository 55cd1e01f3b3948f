"""Means over the whole picture as chains of convolutions, where a toolchain computes them so.

``mean = conv(... conv(x))``: depthwise, each over windows of at most ``side`` x ``side`` that do not overlap, with
zeros around where the picture is no multiple, until one number a channel is left. Of ``k`` convolutions over ``h`` x
``w`` numbers every weight is ``(1 / (h * w)) ** (1 / k)``. RKNN-Toolkit2 2.5.0 does so with ``side`` 7, rounding each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph import edit

SPATIAL = (2, 3)  # the axes of height and width

Shape = tuple[int, ...]
Stage = tuple[tuple[int, int], Shape]  # a window, and the zeros around: top, left, bottom, right


def split_whole_pools(proto: onnx.ModelProto, side: int) -> None:
    """Replace every GlobalAveragePool, and what is one by its window or axes, whose shape is known, in the main graph.

    What lies between is ``{base}_2conv{k}``, as RKNN-Toolkit2 calls it.
    """
    graph = proto.graph
    work = _Work(side, {t.name: t for t in graph.initializer}, edit.TakenNames.of(graph))
    shapes = dict(_shapes(graph))
    nodes = list[NodeProto]()
    for node in graph.node:
        shape = shapes.get(node.input[0], ()) if node.input else ()
        base = _base(node, shape, work.constants)
        nodes += work.chain(node, base, shape) if base else [node]
    if work.weights:
        copies = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    graph.initializer.extend(work.weights)
    graph.value_info.extend(work.values)
    edit.drop_unread_constants(graph)


def _shapes(graph: GraphProto) -> Iterator[tuple[str, Shape]]:
    """Float tensors with their shapes, 0 for an axis that is not known."""
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT and kind.HasField("shape"):
            yield value.name, tuple(d.dim_value for d in kind.shape.dim)


def _base(node: NodeProto, shape: Shape, constants: Mapping[str, TensorProto]) -> str:
    """What the tensors in between are named after; empty for what is no mean over the whole picture."""
    if len(shape) != 4 or not all(shape[1:]) or shape[2] * shape[3] == 1:
        return ""
    name = node.output[0] if node.name == f"{node.op_type}/{node.output[0]}" else node.name
    if node.op_type == "GlobalAveragePool":
        return name
    whole = tuple(edit.attribute(node, "kernel_shape", ())) == shape[2:]
    if node.op_type == "AveragePool" and whole and not any(edit.attribute(node, "pads", ())):
        return f"{name}_2gavg"
    if node.op_type == "ReduceMean" and len(node.input) > 1 and node.input[1] in constants:
        axes = sorted(int(a) % 4 for a in numpy_helper.to_array(constants[node.input[1]]).ravel())
        return f"{node.input[0]}_gavg" if tuple(axes) == SPATIAL else ""
    return ""


def stages(height: int, width: int, side: int) -> list[Stage]:
    """The window of each convolution and the zeros around its input, until one number is left."""
    found, size = list[Stage](), (height, width)
    while size != (1, 1):
        left = (-(-size[0] // side), -(-size[1] // side))
        missing = [n * side - s if n > 1 else 0 for n, s in zip(left, size, strict=True)]
        before = [m // 2 for m in missing]
        after = [m - b for m, b in zip(missing, before, strict=True)]
        found.append(((min(size[0], side), min(size[1], side)), (*before, *after)))
        size = left
    return found


@dataclass
class _Work:
    """One pass: the graph's constants and names, and what is new."""

    side: int
    constants: Mapping[str, TensorProto]
    names: edit.TakenNames
    weights: list[TensorProto] = field(default_factory=list)
    values: list[onnx.ValueInfoProto] = field(default_factory=list)

    def chain(self, node: NodeProto, base: str, shape: Shape) -> Iterator[NodeProto]:
        """The convolutions that take a node's place, and a Flatten where it drops the axes."""
        found = stages(shape[2], shape[3], self.side)
        number = (1 / (shape[2] * shape[3])) ** (1 / len(found))
        flat = node.op_type == "ReduceMean" and not edit.attribute(node, "keepdims", 1)
        results = [self.names.fresh(f"{base}_2conv{k}") for k in range(len(found) - 1)]
        results.append(self.names.fresh(base) if flat else node.output[0])
        source, size = node.input[0], shape[2:]
        for (window, pads), result in zip(found, results, strict=True):
            weight = self._weight(f"{result}_i1", (shape[1], 1, *window), number)
            size = tuple(-(-n // self.side) for n in size)
            self._value(result, (shape[0] or None, shape[1], *size), node)
            yield self._convolution([source, weight], result, window, pads, shape[1])
            source = result
        if flat:
            yield helper.make_node("Flatten", [source], list(node.output), name=f"{node.name}/flat", axis=1)

    def _convolution(self, inputs: list[str], result: str, window: Shape, pads: Shape, channels: int) -> NodeProto:
        """A depthwise convolution of windows side by side; named after its result."""
        strides = [self.side, self.side]
        node = helper.make_node("Conv", inputs, [result], name=result, kernel_shape=window, pads=pads, strides=strides)
        node.attribute.append(helper.make_attribute("group", channels))
        return node

    def _weight(self, name: str, shape: Shape, number: float) -> str:
        """A constant of one number."""
        made = self.names.fresh(name)
        self.weights.append(numpy_helper.from_array(np.full(shape, number, np.float32), made))
        return made

    def _value(self, name: str, shape: Sequence[int | None], node: NodeProto) -> None:
        """The type of a new tensor."""
        if name not in node.output:
            self.values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
