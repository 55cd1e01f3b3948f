"""Which channels must be scaled alike so that a model computes the same: channels that operators tie together.

Every float tensor gets an array of numbers that broadcasts against it: elements with the same number share a scale, and
number 0 keeps the scale 1. Convolutions and matrix products end a tie, since their weights can take any scale in and
out. ``f(s x) = s f(x)`` passes a tie on (Relu, pooling, ...), data movement carries it along, sums join both
sides. Whatever an operator's rule does not cover is 0: inputs, outputs, Sigmoid, Clip(0, 6), subgraphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from hybridq.graph.edit import attribute, attributes, outer_reads, reads
from hybridq.graph.model import Model
from hybridq.graph.operators import Interval, Layout, Movement, is_unscaled, row_of
from hybridq.graph.operators.columns import Ties
from hybridq.graph.runtime import run, session
from hybridq.graph.shared_qparams import moved
from hybridq.storage.weights import Weights

Numbers = NDArray[np.int64]
Shapes = Mapping[str, tuple[int, ...]]

MOST = 1 << 24  # numbers that float32, in which data movement is run, tells apart


@dataclass(frozen=True)
class Channels:
    """``numbers[tensor]`` broadcasts against the tensor; ``count`` is one more than the largest number."""

    numbers: Mapping[str, Numbers]
    count: int

    def free(self, tensor: str) -> bool:
        """Whether some channel of a tensor may be scaled."""
        return tensor in self.numbers and bool(self.numbers[tensor].any())


def tied_channels(model: Model, weights: Weights, shapes: Shapes) -> Channels:
    """Number the channels of every tensor in ``shapes``, which holds the shapes of all float tensors for one sample."""
    return _Numbering(model, weights, shapes).run()


def absorbs(node: NodeProto, uses: Mapping[str, int], weights: Weights) -> bool:
    """Whether a node's weights and bias can take scales: constant, its own, and with no factor of their own."""
    own = [n for n in node.input[1:] if n]
    if not own or any(n not in weights or uses[n] > 1 or weights[n].dtype != np.float32 for n in own):
        return False
    layout = row_of(node).layout
    if layout is Layout.GEMM:
        plain = is_unscaled(attributes(node)) and not attribute(node, "transA")
        outputs = weights[own[0]].shape[0 if attribute(node, "transB") else 1]
        return plain and all(weights[n].shape == (outputs,) for n in own[1:])
    if layout is Layout.MATMUL:
        return weights[own[0]].ndim == 2
    return layout is not Layout.NONE


def uses_of(model: Model) -> dict[str, int]:
    """How often each tensor is read, by nodes and from subgraphs."""
    found: dict[str, int] = {}
    for node in model.proto.graph.node:
        for name in reads(node):
            found[name] = found.get(name, 0) + 1
    return found


@dataclass
class _Numbering:
    model: Model
    weights: Weights
    shapes: Shapes
    numbers: dict[str, Numbers] = field(default_factory=dict)
    parent: list[int] = field(default_factory=lambda: [0])

    def run(self) -> Channels:
        for name in self.model.inputs:
            self._fixed(name)
        uses = uses_of(self.model)
        for node in self.model.proto.graph.node:
            done = absorbs(node, uses, self.weights) and self._absorbing(node)
            rule = RULES.get(row_of(node).ties)
            if not done and not (rule is not None and self._understood(node) and rule(self, node)):
                self._end(node)
            for name in outer_reads(node):
                self._fix(name)
        for name in self.model.outputs:
            self._fix(name)
        return self._finish()

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
        if any(size > 1 for i, size in enumerate(self.numbers[data].shape) if i != axis):
            self._fix(data)
        shape = [1] * rank
        shape[axis] = self.shapes[out][axis]
        start = len(self.parent)
        self.parent.extend(range(start, start + shape[axis]))
        self.numbers[out] = np.arange(start, start + shape[axis]).reshape(shape)
        return True

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
        for name in self._read(node):
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
        return Channels(numbers, int(compact.max()) + 1)


RULES: dict[Ties, Callable[[_Numbering, NodeProto], bool]] = {  # ABSORBED has its own, FIXED ends every tie
    Ties.HOMOGENEOUS: _Numbering._same,
    Ties.POOLED: _Numbering._pooled,
    Ties.CLIP: _Numbering._clip,
    Ties.REDUCED: _Numbering._reducing,
    Ties.MOVED: _Numbering._moving,
    Ties.SPATIAL: _Numbering._resized,
    Ties.SUM: _Numbering._sum,
    Ties.PRODUCT: _Numbering._product,
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
