"""Ranges without any sample (``--data-free``): from BatchNorm where there is one, by arithmetic where there is none.

BatchNorm's output has in every channel the mean ``beta`` and the deviation ``|gamma|`` that training left there, so
that ``beta +- DEVIATIONS * |gamma|`` holds nearly all of it (M. Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019). Everything else follows from its inputs, channel by channel: limits by
interval arithmetic, which never miss but grow; mean and deviation as if channels were independent, which keep the
limits of a convolution near what occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from hybridq.calibration.unbounded import ENDLESS
from hybridq.graph.edit import attribute, attributes
from hybridq.graph.model import Model
from hybridq.graph.operators import Kind, Layout, Movement, Role, row_of
from hybridq.graph.operators.columns import DataFree
from hybridq.graph.outside import values_of
from hybridq.quant.qparams import Range
from hybridq.quant.records import Measured

DEVIATIONS = 6.0
FEWER_DEVIATIONS = 4.0  # where the deviation is itself an upper estimate
INPUT = Range(-2.5, 2.5)  # a normalized picture, where mean and std do not say what enters
BITS = (8, 16)
Values = NDArray[np.float64]


class Trust(IntEnum):
    """How sure a range is; a tensor is no surer than what it is computed from."""

    GUESS = 0
    INTERVAL = 1
    BATCHNORM = 2

    @property
    def word(self) -> str:
        """As people read it."""
        return self.name.lower()


@dataclass(frozen=True)
class DataFreeRanges:
    """Ranges and how sure each is, by tensor of the canonical graph."""

    ranges: Mapping[str, Range]
    trust: Mapping[str, Trust]
    unbounded: frozenset[str] = frozenset()  # tensors that hold infinities, or what stands for them

    def remarks(self, model: Model) -> list[str]:
        """What was taken for the range of each float input, and how sure the others are, in words."""
        said = []
        for name in model.inputs:
            if name in self.ranges:
                r, guessed = self.ranges[name], self.trust[name] is Trust.GUESS
                why = (
                    "a guess; for pictures give --mean and --std" if guessed else "pictures of 0 to 255 by mean and std"
                )
                said.append(f"Input '{name}' is taken to lie in [{r.min:.4g}, {r.max:.4g}] ({why}).")
        counts = {t: sum(v is t for v in self.trust.values()) for t in reversed(Trust)}
        said.append(
            f"{counts[Trust.BATCHNORM]} ranges come from BatchNorm, {counts[Trust.INTERVAL]} from intervals, "
            f"{counts[Trust.GUESS]} are guesses. Real samples give better ones."
        )
        return said

    def measured(self, model: Model) -> dict[str, Measured]:
        """What ``decide`` needs of every group, in place of what calibration measures."""
        found = {}
        for group in model.groups:
            known = [self.ranges[s] for s in group.sources if s in self.ranges]
            r = Range(*group.fixed) if group.fixed is not None else Range(0.0, 0.0)
            for other in known if group.fixed is None else ():
                r = r.union(other)
            ranges, unbounded = {"normal": dict.fromkeys(BITS, r)}, not self.unbounded.isdisjoint(group.sources)
            found[group.name] = Measured(r, ranges, fixed=group.fixed is not None, unbounded=unbounded)
        return found


@dataclass(frozen=True)
class _Spread:
    """What is thought of a tensor, by channel (axis 1) or as a whole: arrays of shape (channels,) or (1,)."""

    low: Values
    high: Values
    mean: Values
    deviation: Values
    trust: Trust

    def collapsed(self) -> _Spread:
        """One spread for all channels."""
        mean = self.mean.mean()
        deviation = np.sqrt((self.deviation**2 + (self.mean - mean) ** 2).mean())
        return _single(float(self.low.min()), float(self.high.max()), float(mean), float(deviation), self.trust)

    def matched(self, other: _Spread) -> tuple[_Spread, _Spread]:
        """Both with as many channels, collapsed where they disagree."""
        sizes = {len(self.low), len(other.low)} - {1}
        return (self, other) if len(sizes) <= 1 else (self.collapsed(), other.collapsed())

    @property
    def range(self) -> Range:
        """The whole tensor's range, zero in it."""
        limit = float(np.finfo(np.float32).max)
        return Range(max(float(self.low.min()), -limit), min(float(self.high.max()), limit)).with_zero()


def _normal(mean: Values, deviation: Values, trust: Trust) -> _Spread:
    """A normal distribution, cut off where little of it is left."""
    reach = (DEVIATIONS if trust is Trust.BATCHNORM else FEWER_DEVIATIONS) * deviation
    return _Spread(mean - reach, mean + reach, mean, deviation, trust)


def _flat(r: Range, trust: Trust) -> _Spread:
    """A spread that is even over a range."""
    middle, deviation = (r.min + r.max) / 2, (r.max - r.min) / np.sqrt(12)
    return _single(r.min, r.max, middle, float(deviation), trust)


def _single(low: float, high: float, mean: float, deviation: float, trust: Trust) -> _Spread:
    """One spread for all channels."""
    return _Spread(np.array([low]), np.array([high]), np.array([mean]), np.array([deviation]), trust)


@dataclass
class _Graph:
    """A graph's constants, and the spreads found so far."""

    constants: dict[str, NDArray[np.generic]]
    spreads: dict[str, _Spread] = field(default_factory=dict)
    unbounded: set[str] = field(default_factory=set)

    def spread(self, name: str) -> _Spread | None:
        """The spread of a tensor or of a constant (by its second axis from the front where that tells channels)."""
        if name in self.constants:
            values = self.constants[name].astype(np.float64)
            values = values if self.is_bounded(name) else values[np.abs(values) < ENDLESS]
            if values.size == 0 or self.constants[name].dtype.kind != "f":
                return None
            if values.ndim in (3, 4) and values.size == values.shape[-3]:
                flat = values.reshape(-1)
                return _Spread(flat, flat, flat, np.zeros_like(flat), Trust.BATCHNORM)
            return _flat(Range(float(values.min()), float(values.max())), Trust.BATCHNORM)
        return self.spreads.get(name)

    def is_bounded(self, name: str) -> bool:
        """Whether a tensor or a constant holds no infinity and nothing that stands for one."""
        held = self.constants.get(name)
        constant = held is not None and held.dtype.kind == "f" and bool((np.abs(held) >= ENDLESS).any())
        return not constant and name not in self.unbounded

    def reach(self, node: NodeProto) -> None:
        """Note what a node hands on of infinities: arithmetic and movement do, results of known range do not."""
        row = row_of(node)
        hands_on = row.kind in (Kind.ELEMENTWISE, Kind.MOVEMENT) and row.range is None
        read = [n for i, n in enumerate(node.input) if row.kind is Kind.MOVEMENT or row.inputs[i] is not Role.PARAMETER]
        if hands_on and row.movement is not Movement.LARGEST and not all(map(self.is_bounded, read)):
            self.unbounded.update(node.output)


def data_free(
    given: onnx.ModelProto, proto: onnx.ModelProto, inputs: Mapping[str, Range] | None = None
) -> DataFreeRanges:
    """Ranges of every float tensor of the canonical graph ``proto``.

    ``given`` is the model as it came, BatchNorm and all. ``inputs`` has the ranges of the model's inputs as far as
    preprocessing tells them.
    """
    seeds = _batch_norms(given)
    graph = _Graph({i.name: values_of(i) for i in proto.graph.initializer})
    for value in proto.graph.input:
        known = (inputs or {}).get(value.name)
        graph.spreads[value.name] = _flat(known or INPUT, Trust.INTERVAL if known else Trust.GUESS)
    for node in proto.graph.node:
        graph.reach(node)
        if node.output[0] in seeds:
            graph.spreads[node.output[0]] = seeds[node.output[0]]
            continue
        found = _propagate(node, graph)
        if found is not None:
            graph.spreads.update(dict.fromkeys(node.output, found))
    return DataFreeRanges(
        {name: s.range for name, s in graph.spreads.items()},
        {name: s.trust for name, s in graph.spreads.items()},
        frozenset(graph.unbounded),
    )


def _batch_norms(given: onnx.ModelProto) -> dict[str, _Spread]:
    """The spread of every BatchNormalization's output: mean ``beta``, deviation ``|gamma|``."""
    constants = {i.name: values_of(i) for i in given.graph.initializer}
    for node in given.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = values_of(node.attribute[0].t)
    found = {}
    for node in given.graph.node:
        if node.op_type == "BatchNormalization" and all(n in constants for n in node.input[1:3]):
            gamma, beta = (constants[n].astype(np.float64) for n in node.input[1:3])
            found[node.output[0]] = _normal(beta, np.abs(gamma), Trust.BATCHNORM)
    return found


def _propagate(node: NodeProto, graph: _Graph) -> _Spread | None:
    """The spread of a node's output, None where it is no float tensor that follows from another."""
    row = row_of(node)
    read = [n for i, n in enumerate(node.input) if n and row.inputs[i] is not Role.PARAMETER]
    inputs = [s for s in map(graph.spread, read) if s is not None]
    if not inputs or not any(n in graph.spreads for n in node.input):
        return None
    found = RULES[row.data_free](node, graph, inputs)
    return found if found is not None else _guess(node, graph, inputs)


Rule = Callable[[NodeProto, _Graph, list[_Spread]], _Spread | None]


def _monotone(function: Callable[[Values], Values]) -> Rule:
    """A rule for an elementwise function that never falls; mean and deviation by nine points of the normal curve."""
    points = np.array([-1.97, -1.28, -0.84, -0.43, 0.0, 0.43, 0.84, 1.28, 1.97])[:, None]

    def rule(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread:
        x = inputs[0]
        likely = function(np.clip(x.mean + points * x.deviation, x.low, x.high))
        return _Spread(function(x.low), function(x.high), likely.mean(axis=0), likely.std(axis=0), x.trust)

    return rule


def _clip(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    bounds = [graph.constants.get(n) if n else None for n in [*node.input[1:3], "", ""][:2]]
    low, high = (None if b is None else float(b.reshape(-1)[0]) for b in bounds)
    return _monotone(lambda v: np.clip(v, -np.inf if low is None else low, high))(node, graph, inputs)


def _leaky(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    alpha = attribute(node, "alpha", 0.01)
    return _monotone(lambda v: np.where(v > 0, v, alpha * v))(node, graph, inputs)


def _sum(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    if len(inputs) != 2:
        return None
    a, b = inputs[0].matched(inputs[1])
    return _Spread(
        a.low + b.low, a.high + b.high, a.mean + b.mean, np.hypot(a.deviation, b.deviation), min(a.trust, b.trust)
    )


def _difference(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    turned = [replace(b, low=-b.high, high=-b.low, mean=-b.mean) for b in inputs[1:]]
    return _sum(node, graph, [*inputs[:1], *turned])


def _product(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    if len(inputs) != 2:
        return None
    a, b = inputs[0].matched(inputs[1])
    corners = np.stack([x * y for x in (a.low, a.high) for y in (b.low, b.high)])
    variance = (a.mean * b.deviation) ** 2 + (b.mean * a.deviation) ** 2 + (a.deviation * b.deviation) ** 2
    return _Spread(corners.min(axis=0), corners.max(axis=0), a.mean * b.mean, np.sqrt(variance), min(a.trust, b.trust))


def _linear(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    """Conv, Gemm, MatMul with a constant right operand: rows of weights over input channels."""
    if len(node.input) < 2 or node.input[1] not in graph.constants or node.input[0] not in graph.spreads:
        return None
    weight = graph.constants[node.input[1]].astype(np.float64)
    given, is_conv = attributes(node), row_of(node).layout is Layout.CONV
    if not is_conv:
        weight = weight if given.get("transB") else weight.T
        if weight.ndim != 2:
            return None
    outputs, group = len(weight), int(given.get("group", 1)) if is_conv else 1
    x = graph.spreads[node.input[0]]
    taps = weight.reshape(outputs, weight.shape[1], -1)
    x = x if len(x.low) == group * weight.shape[1] else x.collapsed()

    def by_output(v: Values) -> Values:
        """What each output's weights meet: (outputs, input channels of its group)."""
        return np.repeat(np.broadcast_to(v, group * weight.shape[1]).reshape(group, -1), outputs // group, axis=0)

    over, under = np.maximum(taps, 0).sum(axis=2), np.minimum(taps, 0).sum(axis=2)
    low, high = by_output(x.low), by_output(x.high)
    bias = graph.constants[node.input[2]].reshape(-1) if len(node.input) > 2 and node.input[2] in graph.constants else 0
    mean = ((over + under) * by_output(x.mean)).sum(axis=1) + bias
    power = np.maximum((taps**2).sum(axis=2), (over + under) ** 2)  # neighbours alike, or independent
    found = _normal(mean, np.sqrt((power * by_output(x.deviation) ** 2).sum(axis=1)), min(x.trust, Trust.INTERVAL))
    lowest, highest = (over * low + under * high).sum(axis=1) + bias, (over * high + under * low).sum(axis=1) + bias
    return replace(found, low=np.maximum(found.low, lowest), high=np.minimum(found.high, highest))


def _concat(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread:
    axis = attribute(node, "axis", 0)
    parts = inputs if axis == 1 and all(len(s.low) > 1 for s in inputs) else [s.collapsed() for s in inputs]
    found = _Spread(
        np.concatenate([s.low for s in parts]),
        np.concatenate([s.high for s in parts]),
        np.concatenate([s.mean for s in parts]),
        np.concatenate([s.deviation for s in parts]),
        min(s.trust for s in parts),
    )
    return found if parts is inputs else found.collapsed()


def _kept(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread:
    return inputs[0]


def _mixed(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread:
    return inputs[0].collapsed()


def _fixed(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    known = row_of(node).fixed_range
    return _flat(Range(*known), inputs[0].trust) if known else None


def _choice(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread | None:
    """One or the other, element by element: nobody knows which."""
    return _guess(node, graph, inputs)


def _guess(node: NodeProto, graph: _Graph, inputs: list[_Spread]) -> _Spread:
    """Values of unknown operators are guessed to lie where their inputs lie."""
    whole = [s.collapsed() for s in inputs]
    low, high = min(s.low[0] for s in whole), max(s.high[0] for s in whole)
    return _flat(Range(low, high), Trust.GUESS)


def _sigmoid(v: Values) -> Values:
    return 0.5 * (1.0 + np.tanh(v / 2.0))


RULES: dict[DataFree, Rule] = {
    DataFree.LINEAR: _linear,
    DataFree.SUM: _sum,
    DataFree.DIFFERENCE: _difference,
    DataFree.PRODUCT: _product,
    DataFree.RELU: _monotone(lambda v: np.maximum(v, 0.0)),
    DataFree.CLIP: _clip,
    DataFree.LEAKY: _leaky,
    DataFree.SIGMOID: _monotone(_sigmoid),
    DataFree.HARD_SIGMOID: _monotone(lambda v: np.clip(v / 6.0 + 0.5, 0.0, 1.0)),
    DataFree.TANH: _monotone(np.tanh),
    DataFree.FIXED: _fixed,
    DataFree.CHOICE: _choice,
    DataFree.CHANNELS: _kept,
    DataFree.MIXED: _mixed,
    DataFree.JOINED: _concat,
    DataFree.GUESS: _guess,
}
