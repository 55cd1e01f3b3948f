"""Which channels must be scaled alike so that a model computes the same: channels that operators tie together.

Every float tensor gets an array of numbers that broadcasts against it: elements with the same number share a scale, and
number 0 keeps the scale 1. Convolutions and matrix products end a tie, since their weights can take any scale in and
out; so does a constant with a number for each channel, as that by which a normalization scales. ``f(s x) = s f(x)``
passes a tie on (Relu, pooling, ...), data movement carries it along, sums join both sides. Whatever an operator's rule
does not cover is 0: inputs, outputs, Sigmoid, Clip(0, 6), subgraphs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from hybridq.graph.edit import attribute, attributes, outer_reads, reads
from hybridq.graph.model import Model
from hybridq.graph.operators import Interval, Layout, Movement, Role, is_unscaled, row_of
from hybridq.graph.operators.columns import Ties
from hybridq.graph.runtime import run, session
from hybridq.graph.shared_qparams import moved
from hybridq.storage.weights import Weights

Numbers = NDArray[np.int64]
Shapes = Mapping[str, tuple[int, ...]]

MOST = 1 << 24  # numbers that float32, in which data movement is run, tells apart


@dataclass(frozen=True)
class Channels:
    """``numbers[tensor]`` broadcasts against the tensor; ``count`` is one more than the largest number.

    ``own`` are the constants that may take scales: one node reads each.
    """

    numbers: Mapping[str, Numbers]
    count: int
    own: frozenset[str]

    def free(self, tensor: str) -> bool:
        """Whether some channel of a tensor may be scaled."""
        return tensor in self.numbers and bool(self.numbers[tensor].any())


@dataclass(frozen=True, slots=True)
class Vector:
    """A constant operand with a number for each channel: its place among the inputs, its axis counted from the last."""

    index: int
    axis: int

    @property
    def other(self) -> int:
        """The place of the other operand."""
        return 1 - self.index


def tied_channels(model: Model, weights: Weights, shapes: Shapes, kept: Collection[str] = ()) -> Channels:
    """Number the channels of every tensor in ``shapes``, which holds the shapes of all float tensors for one sample.

    Constants that are ``kept`` stay as they are.
    """
    uses = Counter(name for node in model.proto.graph.node for name in reads(node))
    own = (n for n, count in uses.items() if count == 1 and n in weights and n not in kept)
    return _Numbering(model, weights, shapes, frozenset(n for n in own if weights[n].dtype == np.float32)).run()


def absorbs(node: NodeProto, own: Collection[str], weights: Weights) -> bool:
    """Whether a node's weights and bias can take scales: constant, its own, and with no factor of their own."""
    held = [n for n in node.input[1:] if n]
    if not held or any(n not in own for n in held):
        return False
    layout = row_of(node).layout
    if layout is Layout.GEMM:
        plain = is_unscaled(attributes(node)) and not attribute(node, "transA")
        outputs = weights[held[0]].shape[0 if attribute(node, "transB") else 1]
        return plain and all(weights[n].shape == (outputs,) for n in held[1:])
    if layout is Layout.MATMUL:
        return weights[held[0]].ndim == 2
    return layout not in (Layout.NONE, Layout.TABLE)


def vector_of(node: NodeProto, own: Collection[str], weights: Weights) -> Vector | None:
    """The constant of a sum or a product that has a number for each channel and is the node's own, if it has one."""
    if row_of(node).ties not in (Ties.SUM, Ties.PRODUCT) or len(node.input) != 2:
        return None
    held = [i for i, n in enumerate(node.input) if n in own]
    shape = weights[node.input[held[0]]].shape if len(held) == 1 else ()
    axes = [a - len(shape) for a, size in enumerate(shape) if size > 1]
    return Vector(held[0], axes[0]) if len(axes) == 1 else None


def scale_and_shift(node: NodeProto, own: Collection[str], weights: Weights) -> list[str]:
    """The constants by which a normalization scales and shifts each channel of its axis; none that others read."""
    held = [n for n in node.input[1:] if n]
    fits = row_of(node).ties is Ties.NORMALIZED and all(n in own and weights[n].ndim == 1 for n in held)
    return held if fits else []


def normalized_axis(node: NodeProto, rank: int) -> int:
    """The axis of the channels that a normalization scales."""
    return int(attribute(node, "axis", row_of(node).axis)) % rank


def divides(node: NodeProto, index: int) -> bool:
    """Whether an operand is what a quotient divides by."""
    return row_of(node).interval is Interval.QUOTIENT and index == 1


@dataclass
class _Numbering:
    model: Model
    weights: Weights
    shapes: Shapes
    own: frozenset[str]
    numbers: dict[str, Numbers] = field(default_factory=dict)
    parent: list[int] = field(default_factory=lambda: [0])

    def run(self) -> Channels:
        for name in self.model.inputs:
            self._fixed(name)
        for node in self.model.proto.graph.node:
            if not (self._takes_any(node) or self._ruled(node)):
                self._end(node)
            for name in outer_reads(node):
                self._fix(name)
        for name in self.model.outputs:
            self._fix(name)
        return self._finish()

    def _takes_any(self, node: NodeProto) -> bool:
        """Whether a node's own constants take the scales of its channels."""
        return (absorbs(node, self.own, self.weights) and self._absorbing(node)) or self._by_vector(node)

    def _ruled(self, node: NodeProto) -> bool:
        rule = RULES.get(row_of(node).ties)
        return rule is not None and self._understood(node) and rule(self, node)

    def _understood(self, node: NodeProto) -> bool:
        """Whether all that a node reads and makes is known: tensors with numbers and a shape, or constants."""
        known = all(n in self.numbers or n in self.weights for n in node.input if n)
        return known and bool(self._read(node)) and all(n in self.shapes for n in node.output if n)

    def _read(self, node: NodeProto) -> list[str]:
        return [n for n in node.input if n in self.numbers]

    # --- rules: give numbers to a node's outputs, or say that they do not apply ---

    def _absorbing(self, node: NodeProto) -> bool:
        data, out = node.input[0], node.output[0]
        if data not in self.numbers or out not in self.shapes:
            return False
        rank = len(self.shapes[out])
        axis = (row_of(node).channel_axis or 0) % rank
        self._only_along(data, axis)
        self._anew(out, axis)
        return True

    def _normalizing(self, node: NodeProto) -> bool:
        """What a normalization scales its channels by takes any scale out."""
        out, constants = node.output[0], scale_and_shift(node, self.own, self.weights)
        axis = normalized_axis(node, len(self.shapes[out]))
        if not constants or self.weights[constants[0]].shape != (self.shapes[out][axis],):
            return False
        self._end(node)
        self._anew(out, axis)
        return True

    def _by_vector(self, node: NodeProto) -> bool:
        """A constant with a number for each channel: a product's takes any scale in and out, a sum's the result's."""
        out, vector = node.output[0], vector_of(node, self.own, self.weights)
        if vector is None or out not in self.shapes or node.input[vector.other] not in self.numbers:
            return False
        data, axis = node.input[vector.other], len(self.shapes[out]) + vector.axis
        if divides(node, vector.other):
            self._fix(data)
        elif self.shapes[data] != self.shapes[out]:
            return False
        self._only_along(data, axis)
        if row_of(node).ties is Ties.SUM:
            self.numbers[out] = self.numbers[data]
        else:
            self._anew(out, axis)
        return True

    def _only_along(self, tensor: str, axis: int) -> None:
        """Fix a tensor whose scales differ along another axis."""
        if any(size > 1 for i, size in enumerate(self.numbers[tensor].shape) if i != axis):
            self._fix(tensor)

    def _anew(self, tensor: str, axis: int) -> None:
        """New numbers along an axis."""
        shape = [1] * len(self.shapes[tensor])
        shape[axis] = self.shapes[tensor][axis]
        start = len(self.parent)
        self.parent.extend(range(start, start + shape[axis]))
        self.numbers[tensor] = np.arange(start, start + shape[axis]).reshape(shape)

    def _same(self, node: NodeProto) -> bool:
        if len(self._read(node)) != 1 or len([n for n in node.output if n]) != 1:
            return False
        self.numbers[node.output[0]] = self.numbers[node.input[0]]
        return True

    def _pooled(self, node: NodeProto) -> bool:
        """Windows lie across all axes behind the channels."""
        return all(size == 1 for n in self._read(node) for size in self.numbers[n].shape[2:]) and self._same(node)

    def _clip(self, node: NodeProto) -> bool:
        """Only a Clip that is a Relu."""
        bounds = [self.weights.get(n) if n else None for n in node.input[1:]]
        low, high = [*bounds, None, None][:2]
        relu = low is not None and float(low.ravel()[0]) == 0.0 and (high is None or float(high.ravel()[0]) > 3e38)
        return relu and self._same(node)

    def _reducing(self, node: NodeProto) -> bool:
        data = node.input[0]
        rank = len(self.shapes[data])
        given = self.weights.get(node.input[1]) if len(node.input) > 1 and node.input[1] else None
        if given is None:
            return False
        axes = tuple(int(a) % rank for a in given.ravel())
        if any(self.numbers[data].shape[a] > 1 for a in axes):
            return False
        kept = self.numbers[data]
        self.numbers[node.output[0]] = kept if attribute(node, "keepdims", 1) else kept.squeeze(axes)
        return True

    def _resized(self, node: NodeProto) -> bool:
        """Resize and Pad (with zeros) along axes on which all elements share a number."""
        data, out = node.input[0], node.output[0]
        padded = row_of(node).movement is Movement.PADDED and len(node.input) > 2
        filled = self.weights.get(node.input[2]) if padded else None
        if self._read(node) != [data] or (filled is not None and filled.any()):
            return False
        before, after = self.shapes[data], self.shapes[out]
        numbers = self.numbers[data]
        if len(before) != len(after) or any(
            n > 1 and a != b for n, a, b in zip(numbers.shape, before, after, strict=True)
        ):
            return False
        self.numbers[out] = numbers
        return True

    def _sum(self, node: NodeProto) -> bool:
        read = list(node.input)
        if any(n not in self.numbers for n in read) or len({self.shapes[n] for n in read}) != 1:
            return False
        a, b = np.broadcast_arrays(*(self.numbers[n] for n in read))
        for one, other in {*zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)}:
            self._tie(one, other)
        self.numbers[node.output[0]] = a.copy()
        return True

    def _product(self, node: NodeProto) -> bool:
        """By a constant, or by a gate whose own scale is fixed."""
        read = list(dict.fromkeys(self._read(node)))
        free = [n for n in read if any(self._find(int(i)) for i in np.unique(self.numbers[n]))]
        if len(free) != 1 or (len(read) == 1 and read[0] == node.input[0] == node.input[1]):
            return False
        if self.shapes[free[0]] != self.shapes[node.output[0]] or (
            row_of(node).interval is Interval.QUOTIENT and node.input[1] == free[0]
        ):
            return False
        self.numbers[node.output[0]] = self.numbers[free[0]]
        return True

    def _moving(self, node: NodeProto) -> bool:
        """Let the operator move the numbers themselves."""
        if len(self.parent) > MOST or any(n not in self.shapes for n in self._read(node)):
            return False
        whole = moved(node)
        feed: dict[str, NDArray[Any]] = {}
        for name in dict.fromkeys(n for n in node.input if n):
            if name in self.numbers:
                feed[name] = np.broadcast_to(self.numbers[name], self.shapes[name]).astype(np.float32)
            else:
                feed[name] = np.zeros_like(self.weights[name]) if name in whole else self.weights[name]
        for name, values in zip([n for n in node.output if n], _run_alone(node, feed, self.model), strict=True):
            self.numbers[name] = _compressed(values.astype(np.int64))
        return True

    # --- sets of numbers ---

    def _end(self, node: NodeProto) -> None:
        roles = row_of(node).inputs
        for name in [n for i, n in enumerate(node.input) if n in self.numbers and roles[i] is not Role.SHAPE]:
            self._fix(name)
        for name in node.output:
            if name:
                self._fixed(name)

    def _fixed(self, name: str) -> None:
        self.numbers[name] = np.zeros([1] * len(self.shapes.get(name, ())), np.int64)

    def _fix(self, name: str) -> None:
        for i in np.unique(self.numbers.get(name, np.zeros(0, np.int64))).tolist():
            self._tie(0, i)

    def _find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def _tie(self, a: int, b: int) -> None:
        a, b = self._find(a), self._find(b)
        self.parent[max(a, b)] = min(a, b)

    def _finish(self) -> Channels:
        roots = np.array([self._find(i) for i in range(len(self.parent))])
        _, compact = np.unique(roots, return_inverse=True)
        numbers = {name: compact[found] for name, found in self.numbers.items()}
        return Channels(numbers, int(compact.max()) + 1, self.own)


RULES: dict[Ties, Callable[[_Numbering, NodeProto], bool]] = {  # ABSORBED has its own, FIXED ends every tie
    Ties.HOMOGENEOUS: _Numbering._same,
    Ties.POOLED: _Numbering._pooled,
    Ties.CLIP: _Numbering._clip,
    Ties.REDUCED: _Numbering._reducing,
    Ties.MOVED: _Numbering._moving,
    Ties.SPATIAL: _Numbering._resized,
    Ties.SUM: _Numbering._sum,
    Ties.PRODUCT: _Numbering._product,
    Ties.NORMALIZED: _Numbering._normalizing,
}


def _run_alone(node: NodeProto, feed: Mapping[str, NDArray[Any]], model: Model) -> list[NDArray[Any]]:
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feed.items()
    ]
    outputs = [onnx.ValueInfoProto(name=n) for n in node.output if n]
    graph = helper.make_graph([node], "alone", inputs, outputs)
    made = helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=model.proto.ir_version)
    return run(session(made, threads=1, level="none"), feed)


def _compressed(numbers: Numbers) -> Numbers:
    """The same with every axis on which nothing changes cut to one."""
    for axis in range(numbers.ndim):
        first = numbers.take([0], axis) if numbers.shape[axis] else numbers
        if numbers.shape[axis] > 1 and (numbers == first).all():
            numbers = first
    return numbers
