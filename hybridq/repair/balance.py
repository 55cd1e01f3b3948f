"""Scales of channels that balance what rounding a tensor does at its readers against what rounding their weights does.

A layer reads ``x[c]`` and multiplies it by ``w[o, c]``. Made ``s[c]`` times weaker where it is read and as much louder
where it is made, a channel hears less of the tensor's rounding and more of the weights'::

    noise = step ** 2 / 12 * sum over c of s[c] ** 2 * a[c]  +  1 / 12 * sum over c of b[c] / s[c] ** 2
    a[c] = sum over o of w[o, c] ** 2 / signal[o]
    b[c] = E[x[c] ** 2] * sum over o of step_of_weights[o] ** 2 / signal[o]

``signal[o]`` is the power of the layer's result, so that each of its channels counts alike. The noise is least where
``s[c] ** 4 = b[c] / (step ** 2 * a[c])``. Steps of weights follow from their largest, which the scales change: a few
rounds settle it. (Xiao et al., "SmoothQuant", 2023, balance the largest numbers instead: of LayerNorms, too.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from hybridq.graph.edit import attribute
from hybridq.graph.model import Model
from hybridq.graph.operators import Layout, row_of
from hybridq.repair.channels import Channels, absorbs
from hybridq.storage.weights import Weights

Array = NDArray[Any]
Doubles = NDArray[np.float64]

ROUNDS = 8
ACTIVATION_STEPS, WEIGHT_STEPS = 255, 127  # of 8 bits: over a range, and from zero to the largest weight
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class SeenChannels:
    """A tensor's channels, shaped as its numbers: how far each is expected to reach below and above zero, E[x ** 2]."""

    low: Doubles
    high: Doubles
    power: Doubles

    @property
    def span(self) -> float:
        """From the lowest to the highest."""
        return float(self.low.max() + self.high.max())


@dataclass(frozen=True)
class Read:
    """One layer and the tensor that it reads: ``weights`` and ``numbers`` of the channels, by group.

    Shapes: ``weights`` (groups, outputs, channels), the root of the sum of squares over the window; ``largest`` alike,
    the largest of the window; ``numbers`` and ``power``, E[x ** 2], (groups, channels). ``window`` is its size.
    """

    weights: Array
    largest: Array
    window: int
    numbers: NDArray[np.int64]
    power: Doubles
    step: float

    def noise(self, scales: Doubles) -> tuple[Doubles, Doubles]:
        """What rounding the tensor (times ``s ** 2``) and the weights (over ``s ** 2``) does, (groups, channels)."""
        squares = np.square(self.weights, dtype=np.float64)
        signal = np.einsum("goc,gc->go", squares, self.power)
        counts = 1 / np.maximum(signal, 1e-12 * signal.max(initial=0.0) + TINY)
        steps = (self.largest * scales[self.numbers][:, None]).max(2, initial=0.0) / WEIGHT_STEPS
        of_tensor = self.step**2 * np.einsum("goc,go->gc", squares, counts)
        of_weights = self.power * self.window * (np.square(steps) * counts).sum(1, keepdims=True)
        return of_tensor, of_weights


def balanced(
    model: Model,
    weights: Weights,
    channels: Channels,
    seen: Mapping[str, SeenChannels],
    wanted: NDArray[np.bool_],
    least: Doubles,
) -> Doubles:
    """The scale of each number of ``channels`` that is ``wanted``, from ``least`` to 1; 1 where no layer reads it."""
    reads, scales = list(_reads(model, weights, channels, seen, wanted)), np.ones(channels.count)
    for _ in range(ROUNDS):
        of_tensor, of_weights = np.zeros(channels.count), np.zeros(channels.count)
        for read in reads:
            for total, own in zip((of_tensor, of_weights), read.noise(scales), strict=True):
                np.add.at(total, read.numbers.ravel(), own.ravel())
        with np.errstate(over="ignore", invalid="ignore"):
            best = np.where(of_tensor > 0, of_weights / np.maximum(of_tensor, TINY), 1.0) ** 0.25
        scales = np.where(wanted & np.isfinite(best), np.clip(best, least, 1.0), 1.0)
    return scales


def _reads(
    model: Model, weights: Weights, channels: Channels, seen: Mapping[str, SeenChannels], wanted: NDArray[np.bool_]
) -> Iterator[Read]:
    for node in model.proto.graph.node:
        if not absorbs(node, channels.own, weights) or node.input[0] not in seen:
            continue
        numbers, own = channels.numbers[node.input[0]].ravel(), seen[node.input[0]]
        if not wanted[numbers].any():
            continue
        blocks = _blocks(node, np.asarray(weights[node.input[1]], np.float32))
        groups, _, inputs, window = blocks.shape
        largest = np.abs(blocks).max(3, initial=0.0)
        size = largest if window == 1 else np.sqrt(np.square(blocks).sum(3))
        whole = np.broadcast_to(numbers, groups * inputs).reshape(groups, inputs)
        power = np.broadcast_to(own.power.ravel(), groups * inputs).reshape(groups, inputs)
        yield Read(size, largest, window, whole, power, own.span / ACTIVATION_STEPS)


def _blocks(node: NodeProto, values: Array) -> Array:
    """A layer's weights as (groups, outputs, inputs, window)."""
    layout = row_of(node).layout
    if layout in (Layout.GEMM, Layout.MATMUL):
        turned = layout is Layout.GEMM and attribute(node, "transB")
        return (values if turned else values.T)[None, :, :, None]
    groups = int(attribute(node, "group", 1))
    blocks = values.reshape(groups, len(values) // groups, values.shape[1], -1)
    return blocks if layout is Layout.CONV else blocks.transpose(0, 2, 1, 3)
