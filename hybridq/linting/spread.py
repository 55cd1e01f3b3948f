"""What every element of an output can hold: interval arithmetic from the last layers with weights to the outputs.

One range a tensor cannot show that an output's first four channels hold pixels and the others scores; the constants
that decode it can. Channels of a convolution are as far apart as its weights and bias make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

from hybridq.graph.edit import attributes
from hybridq.graph.model import Layer
from hybridq.graph.operators import Interval, Kind, Layout, lookup, row_of
from hybridq.graph.shared_qparams import moved
from hybridq.linting.facts import Facts
from hybridq.quant.qparams import Range

Values = NDArray[np.float64]
MOST_ELEMENTS = 1 << 23  # of a tensor told apart element by element
MOST_SLICES = 1024  # a longer axis counts positions, not kinds of values


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The least and the greatest value of every element, arrays that broadcast to the tensor's shape.

    ``scores``: elements within 0..1 are probabilities, since some of them came out of a Sigmoid or the like.
    """

    low: Values
    high: Values
    scores: bool = False

    @staticmethod
    def even(r: Range, scores: bool = False) -> Spread:
        """The same range everywhere."""
        return Spread(np.full((), r.min, np.float64), np.full((), r.max, np.float64), scores)

    @property
    def hull(self) -> Range:
        """One range for all elements."""
        return Range(float(self.low.min()), float(self.high.max()))

    def within(self, r: Range) -> Spread:
        """The part that lies in ``r``."""
        return Spread(np.clip(self.low, r.min, r.max), np.clip(self.high, r.min, r.max), self.scores)

    def is_score(self, r: Range) -> bool:
        """Whether a slice of this range holds probabilities."""
        return self.scores and r.min >= 0.0 and 0.5 <= r.max <= 1.001

    def slices(self) -> Iterator[list[Range]]:
        """The ranges of the slices along each axis that has several; slices that never change are left out."""
        low, high = np.broadcast_arrays(self.low, self.high)
        for axis in range(low.ndim):
            if 1 < low.shape[axis] <= MOST_SLICES:
                others = tuple(i for i in range(low.ndim) if i != axis)
                ends = zip(low.min(axis=others), high.max(axis=others), strict=True)
                yield [Range(float(a), float(b)) for a, b in ends if b > a]


@dataclass
class Spreads:
    """The spread of every tensor between the last layers with weights and the outputs."""

    facts: Facts
    found: dict[str, Spread] = field(default_factory=dict)

    def of_tail(self) -> dict[str, Spread]:
        """Walk the tail in graph order."""
        tail = tail_nodes(self.facts)
        for node in self.facts.model.proto.graph.node:
            if node.name in tail:
                self._visit(node)
        return self.found

    def _visit(self, node: NodeProto) -> None:
        row, layer = row_of(node), self.facts.model.layer_of.get(node.name)
        if row.kind is Kind.MOVEMENT:
            self.found.update(zip(node.output, self._moved(node), strict=False))
            return
        for out in node.output:
            measured = self.facts.ranges.get(out)
            spread: Spread | None = None
            if row.interval is Interval.CHANNELS and layer is not None:
                spread = self._by_channel(layer)
            elif row.interval in ARITHMETIC:
                spread = self._computed(node)
            if spread is not None and measured is not None:
                spread = spread.within(measured)
            elif spread is None and measured is not None:
                spread = Spread.even(measured, row.makes_scores)
            if spread is not None:
                self.found[out] = spread

    def _computed(self, node: NodeProto) -> Spread | None:
        """What an operator of ``ARITHMETIC`` makes of what it reads."""
        try:
            return ARITHMETIC[row_of(node).interval](self, node)
        except ValueError:  # free axes that are not 1: the measured range will do
            return None

    def _shape(self, tensor: str) -> tuple[int, ...] | None:
        """The shape of a tensor of moderate size, one sample of it where the batch is free."""
        held = self.facts.model.tensors.get(tensor)
        if held is None or held.shape is None:
            return None
        shape = tuple(d if isinstance(d, int) else 1 for d in held.shape)
        return shape if int(np.prod(shape)) <= MOST_ELEMENTS else None

    def _read(self, tensor: str) -> Spread | None:
        if tensor in self.facts.weights and tensor not in self.found:
            constant = np.asarray(self.facts.weights[tensor])
            values = constant.astype(np.float64)
            told = constant.dtype.kind == "f" and constant.size and np.isfinite(values).all()
            return Spread(values, values) if told else None
        measured = self.facts.ranges.get(tensor)
        return self.found.get(tensor) or (Spread.even(measured, self.facts.is_score(tensor)) if measured else None)

    def _full(self, tensor: str) -> list[Values] | None:
        """Both ends with every element spelled out."""
        spread, shape = self._read(tensor), self._shape(tensor)
        if spread is None or shape is None:
            return None
        try:
            return [np.broadcast_to(end, shape) for end in (spread.low, spread.high)]
        except ValueError:  # a free axis that is not 1
            return None

    def _moved(self, node: NodeProto) -> list[Spread]:
        names = [n for n in moved(node) if n not in self.facts.weights or self.facts.weights[n].size]
        read = [s for s in map(self._read, names) if s is not None]
        if len(read) < len(names) or not names:
            return []
        scores = any(s.scores for s in read)
        hull = Spread.even(Range(min(s.hull.min for s in read), max(s.hull.max for s in read)), scores)
        one_range = len(names) == 1 and read[0].low.ndim == 0
        applied = [] if one_range else self._by_element(node, names)
        return [Spread(low, high, scores) for low, high in applied] or [hull] * len(node.output)

    def _by_element(self, node: NodeProto, names: list[str]) -> list[tuple[Values, Values]]:
        """Both ends of every output, element by element; nothing where they are not known or padded by an infinity."""
        ends = [self._full(n) for n in names]
        known = [e for e in ends if e is not None]
        if len(known) < len(ends):
            return []
        low, high = (self._apply(node, [e[i] for e in known]) for i in (0, 1))
        finite = all(np.isfinite(values).all() for values in [*low, *high])
        return list(zip(low, high, strict=False)) if finite else []  # nothing where either is not known

    def _apply(self, node: NodeProto, values: list[Values]) -> list[Values]:
        """What a value-preserving node makes of values; nothing where that is not known."""
        try:
            interval, given = row_of(node).interval, attributes(node)
            if interval is Interval.JOINED:
                return [np.concatenate(values, axis=given["axis"])]
            if interval is Interval.TRANSPOSED:
                return [np.transpose(values[0], given.get("perm"))]
            if interval in (Interval.SAME, Interval.RESHAPED):
                shape = self._shape(node.output[0])
                return [] if shape is None else [values[0].reshape(shape)]
            if interval is Interval.PICKED and all(n in self.facts.weights for n in node.input[1:] if n):
                feed = {n: np.asarray(self.facts.weights[n]) for n in node.input[1:] if n}
                return list(ReferenceEvaluator(node).run(None, {node.input[0]: values[0], **feed}))
        except (ValueError, IndexError, RuntimeError):  # a free axis that is not 1: the hull will do
            return []
        return []

    def _operands(self, node: NodeProto) -> tuple[Spread, Spread] | None:
        a, b = (self._read(n) for n in node.input[:2])
        return (a, b) if a is not None and b is not None else None

    def _clip(self, node: NodeProto) -> Spread | None:
        bounds = [self.facts.weights.get(n) if n else None for n in [*node.input[1:3], "", ""][:2]]
        low, high = (None if b is None else float(np.asarray(b).reshape(-1)[0]) for b in bounds)
        read = self._read(node.input[0])
        ends = Range(max(-1e38 if low is None else low, -1e38), min(1e38 if high is None else high, 1e38))
        return read.within(ends) if read else None

    def _relu(self, node: NodeProto) -> Spread | None:
        a = self._read(node.input[0])
        return Spread(np.maximum(a.low, 0), np.maximum(a.high, 0), a.scores) if a else None

    def _negative(self, node: NodeProto) -> Spread | None:
        a = self._read(node.input[0])
        return Spread(-a.high, -a.low) if a else None

    def _sum(self, node: NodeProto) -> Spread | None:
        read = self._operands(node)
        return _plus(*read) if read else None

    def _difference(self, node: NodeProto) -> Spread | None:
        read = self._operands(node)
        return _plus(read[0], Spread(-read[1].high, -read[1].low, read[1].scores)) if read else None

    def _product(self, node: NodeProto) -> Spread | None:
        read = self._operands(node)
        return _times(*read) if read else None

    def _quotient(self, node: NodeProto) -> Spread | None:
        read = self._operands(node)
        if read is None or ((read[1].low <= 0).any() and (read[1].high >= 0).any()):
            return None
        return _times(read[0], Spread(1 / read[1].high, 1 / read[1].low, read[1].scores))

    def _chosen(self, node: NodeProto) -> Spread | None:
        """Elements of one or the other by a constant mask."""
        a, b = (self._read(n) for n in node.input[1:3])
        if a is None or b is None or node.input[0] not in self.facts.weights:
            return None
        first = np.asarray(self.facts.weights[node.input[0]], bool)
        return Spread(np.where(first, a.low, b.low), np.where(first, a.high, b.high), a.scores or b.scores)

    def _by_channel(self, layer: Layer) -> Spread | None:
        """Channels of a layer with weights: ``bias +- a * |weights|``, ``a`` such that the widest fill the range."""
        transposed = lookup(layer.op).layout is Layout.CONV_TRANSPOSE
        weight = next((w for w in layer.weights if w.index == 1 and (w.axis is not None or transposed)), None)
        held = self.facts.model.tensors.get(layer.name)
        measured = self.facts.ranges.get(layer.name)
        if weight is None or held is None or held.shape is None or measured is None:
            return None
        norm = np.sqrt((self.facts.by_channel(layer, weight) ** 2).sum(axis=1))
        bias = np.asarray(self.facts.weights[layer.bias], np.float64).reshape(-1) if layer.bias else np.zeros(1)
        if not norm.any() or bias.size not in (1, norm.size):
            return None
        bias = np.broadcast_to(bias, norm.shape)
        live = norm > 0
        reach = ((measured.max - bias[live]) / norm[live]).min()
        if measured.min < 0:
            reach = max(reach, ((bias[live] - measured.min) / norm[live]).min())
        shape = [1] * len(held.shape)
        shape[lookup(layer.op).channel_axis or -1] = norm.size
        radius = max(reach, 0.0) * norm
        return Spread((bias - radius).reshape(shape), (bias + radius).reshape(shape))


def _plus(a: Spread, b: Spread) -> Spread:
    return Spread(a.low + b.low, a.high + b.high, a.scores or b.scores)


def _times(a: Spread, b: Spread) -> Spread:
    ends = [a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high]
    return Spread(np.minimum.reduce(ends), np.maximum.reduce(ends), a.scores or b.scores)


ARITHMETIC: dict[Interval, Callable[[Spreads, NodeProto], Spread | None]] = {
    Interval.SUM: Spreads._sum,
    Interval.DIFFERENCE: Spreads._difference,
    Interval.PRODUCT: Spreads._product,
    Interval.QUOTIENT: Spreads._quotient,
    Interval.NEGATIVE: Spreads._negative,
    Interval.RELU: Spreads._relu,
    Interval.CLIP: Spreads._clip,
    Interval.CHOICE: Spreads._chosen,
}


def tail_nodes(facts: Facts) -> set[str]:
    """Names of the nodes from the last layers with weights (these included) to the outputs."""
    found: set[str] = set()
    waiting = list(facts.model.outputs)
    while waiting:
        node = facts.model.producers.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.add(node.name)
        row = row_of(node)
        if row.kind is Kind.MOVEMENT or row.interval in ARITHMETIC:
            waiting.extend(node.input)
    return found
