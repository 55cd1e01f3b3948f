"""Equalization: channels of one tensor that use its range unevenly are brought closer, and nothing else changes.

One scale serves a whole tensor of 8 bits, so a channel that reaches a tenth of the range has a tenth of the steps.
Where the operators between two layers allow it (``repair.channels``), channel c is divided by ``s[c]`` where it is
made and multiplied by it where it is read: the float model stays the same, each weak channel gets more steps.

``s[c] = sqrt(reach of the channel / reach of its tensor)``, the largest over the tensors where the channel appears,
rounded to a power of two, so that the float model stays the same to the last bit (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019, equalize weights; here it is the measured activations, since
weights have a scale a channel). The square root leaves weak channels as much headroom as it gives them steps: at their
full reach, samples that calibration has not seen would be clipped in every channel at once.

Few samples say little of a channel that is loud in one of them and silent in the others: the next may be louder. The
reach of a channel is therefore taken as ``largest * (largest / median)`` over the samples, at most its tensor's: as far
above the loudest sample as that lies above the middle one.

What a channel gains, the weights that read it may lose: they shrink by ``s[c]`` under a scale that they share with
those of other channels. Not where convolutions of single channels alone read it: their weights have a scale for each
channel, so that only the channel's own rounding error changes, and it shrinks (``Equalizations.harmless``).

What a normalization scales, or any constant with a number for each channel, and no layer with weights, is as loud in
one sample as in the next: such channels need no headroom, and their scales balance the tensor's rounding against that
of the weights that read it (``repair.balance``). Harmless, too: the sum of both shrinks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from hybridq.graph.edit import attribute, attributes
from hybridq.graph.model import Model
from hybridq.graph.operators import Layout, reads_one_channel, row_of
from hybridq.graph.operators.columns import Ties
from hybridq.graph.runtime import Feed
from hybridq.repair.balance import SeenChannels, balanced
from hybridq.repair.channels import Channels, absorbs, divides, scale_and_shift, tied_channels, vector_of
from hybridq.repair.observe import observer
from hybridq.storage.weights import Weights

Array = NDArray[Any]
Doubles = NDArray[np.float64]

EXPONENT = 0.5
LEAST = 1 / 64  # of its tensor's reach: a channel that is nearly dead is not blown up further
TINY = float(np.finfo(np.float32).tiny)
ONE_SIDED = 1e-3  # of the whole range: a side that matters less sets no channel's scale


@dataclass(frozen=True)
class Equalizations:
    """Weights and biases that change, float32, shapes as they were, for two equivalent models.

    ``every``: all channels that are free were equalized; ``harmless``: those that only convolutions of single channels
    read, or that constants alone make, and of the others none. Empty where there is no such channel.
    """

    every: dict[str, Array]
    harmless: dict[str, Array]

    @property
    def differ(self) -> bool:
        """Whether every channel is more than the harmless ones."""
        same = self.every.keys() == self.harmless.keys()
        return not same or any(not np.array_equal(v, self.harmless[n]) for n, v in self.every.items())


NOTHING = Equalizations({}, {})


def equalizations(
    model: Model, weights: Weights, feeds: Sequence[Feed], *, rounded: Collection[str] = (), threads: int = 0
) -> Equalizations:
    """Equivalent models whose channels use their tensors' ranges more evenly.

    ``feeds`` are single samples; some 30 are enough. Of operands that are ``rounded`` to 8 bits, one scale serves all
    channels: they take no others in.
    """
    names = [t.name for t in model.tensors.values() if t.dtype == "float32"]
    first = observer(model, weights, names, threads=threads)(feeds[0])
    channels = tied_channels(model, weights, {n: first[n].shape for n in names if n in first}, rounded)
    seen = [n for n in names if n in model.group_of and channels.free(n)]
    if not seen:
        return NOTHING
    found = _observed(model, weights, channels, seen, feeds, threads)
    makers, shares = _makers(model, weights, channels), _shares(channels, found)
    steady = makers.constants & ~makers.alone
    even = balanced(model, weights, channels, found, steady, shares) if steady[1:].any() else shares
    scales = _powers_of_two(np.where(steady, even, shares**EXPONENT))
    few = np.where(makers.alone | makers.constants, scales, 1.0)
    return Equalizations(*(_applied(model, weights, channels, s) for s in (scales, few)))


@dataclass(frozen=True)
class _Makers:
    """By number of a channel: convolutions make it and those of single channels read it; or constants make it."""

    alone: NDArray[np.bool_]
    constants: NDArray[np.bool_]


def _makers(model: Model, weights: Weights, channels: Channels) -> _Makers:
    alone, constants = np.ones(channels.count, bool), np.ones(channels.count, bool)
    for node in model.proto.graph.node:
        if not absorbs(node, channels.own, weights):
            continue
        layout = row_of(node).layout
        single = reads_one_channel(layout, attributes(node), weights[node.input[1]].shape)
        for tensor, fits, held in (
            (node.input[0], single, True),
            (node.output[0], layout is Layout.CONV, False),
        ):
            if tensor in channels.numbers:
                numbers = channels.numbers[tensor].ravel()
                alone[numbers] &= fits
                constants[numbers] &= held
    return _Makers(alone, constants)


def _observed(
    model: Model, weights: Weights, channels: Channels, tensors: Sequence[str], feeds: Iterable[Feed], threads: int
) -> dict[str, SeenChannels]:
    observe = observer(model, weights, tensors, threads=threads)
    ranks = {t: channels.numbers[t].shape for t in tensors}
    seen: dict[str, list[tuple[Array, Array, Array]]] = {t: [] for t in tensors}
    for feed in feeds:
        values = observe(feed)
        for tensor, shape in ranks.items():
            axes, own = tuple(i for i, size in enumerate(shape) if size == 1), values[tensor]
            ends = (np.maximum(x.max(axes, keepdims=True), 0.0) for x in (-own, own))
            seen[tensor].append((*ends, np.square(own, dtype=np.float64).mean(axes, keepdims=True)))
    found = {}
    for tensor, parts in seen.items():
        low, high, power = (np.array(p) for p in zip(*parts, strict=True))
        found[tensor] = SeenChannels(expected_reach(low), expected_reach(high), power.mean(0))
    return found


def expected_reach(seen: Array) -> Doubles:
    """The reach of channels by that in each sample, (samples, *channels), zero or more; at most the largest of all."""
    exact = seen.astype(np.float64)  # two large numbers of float32 have no middle in float32
    largest, middle = exact.max(axis=0), np.median(exact, axis=0)
    with np.errstate(invalid="ignore"):
        growth = largest / np.maximum(middle, LEAST * largest + TINY)
    return np.asarray(np.minimum(largest * growth, largest.max(initial=0.0)), np.float64)


def _shares(channels: Channels, found: Mapping[str, SeenChannels]) -> Doubles:
    """By number, how far a channel reaches beside its tensor, the most over all tensors: in [LEAST, 1]."""
    shares = np.zeros(channels.count)
    for tensor, own in found.items():
        if not np.isfinite(own.span):
            shares[channels.numbers[tensor].ravel()] = 1.0
            continue
        for side in (own.low, own.high):
            if side.max() > ONE_SIDED * own.span:
                np.maximum.at(shares, channels.numbers[tensor].ravel(), (side / side.max()).ravel())
    return np.clip(shares, LEAST, 1.0)


def _powers_of_two(scales: Doubles) -> Doubles:
    """The nearest in (0, 1]; 1 for number 0."""
    found = np.exp2(np.rint(np.log2(scales)))
    found[0] = 1.0
    return np.asarray(found, np.float64)


def _applied(model: Model, weights: Weights, channels: Channels, scales: Doubles) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for node in model.proto.graph.node:
        for name, factor in _of_constants(node, weights, channels, scales).items():
            found[name] = (weights[name] * factor).astype(np.float32)
        data, out = node.input[0] if node.input else "", node.output[0]
        if not absorbs(node, channels.own, weights) or not (channels.free(data) or channels.free(out)):
            continue
        before, after = (scales[channels.numbers[n]].ravel() for n in (data, out))
        if (before == 1.0).all() and (after == 1.0).all():
            continue
        values = np.asarray(weights[node.input[1]], np.float64)
        found[node.input[1]] = (values * _factors(node, values.shape, before, after)).astype(np.float32)
        if len(node.input) > 2 and node.input[2]:
            bias = np.asarray(weights[node.input[2]], np.float64)
            found[node.input[2]] = (bias / np.broadcast_to(after, bias.shape)).astype(np.float32)
    return found


def _of_constants(node: NodeProto, weights: Weights, channels: Channels, scales: Doubles) -> dict[str, Doubles]:
    """The constants of a normalization, a sum or a product that change, and by what factor, shaped like each."""
    out, vector = node.output[0], vector_of(node, channels.own, weights)
    if not channels.numbers.get(out, np.zeros(0)).any():
        return {}
    after = scales[channels.numbers[out]]
    factors = dict.fromkeys(scale_and_shift(node, channels.own, weights), 1 / after)
    if vector is not None:
        before = scales[channels.numbers[node.input[vector.other]]]
        if row_of(node).ties is Ties.SUM:
            factor = 1 / after
        elif divides(node, vector.index):
            factor = after / before
        else:
            factor = before / after
        factors[node.input[vector.index]] = factor
    changed = {n: f for n, f in factors.items() if (f != 1.0).any()}
    return {n: np.broadcast_to(f.ravel(), (weights[n].size,)).reshape(weights[n].shape) for n, f in changed.items()}


def _factors(node: NodeProto, shape: tuple[int, ...], before: Doubles, after: Doubles) -> Doubles:
    """``before[input channel] / after[output channel]``, shaped to broadcast against weights of ``shape``."""
    layout = row_of(node).layout
    if layout in (Layout.GEMM, Layout.MATMUL):
        both = before[:, None] / after[None]
        return both.T if attribute(node, "transB") else both
    groups = int(attribute(node, "group", 1))
    rest = (1,) * (len(shape) - 2)
    if layout is Layout.CONV:  # (outputs, inputs of a group, ...)
        outputs, inputs = shape[0], shape[1] * groups
        per = np.repeat(np.broadcast_to(before, (inputs,)).reshape(groups, -1), outputs // groups, axis=0)
        return np.asarray(per / np.broadcast_to(after, (outputs,))[:, None]).reshape(*per.shape, *rest)
    inputs, outputs = shape[0], shape[1] * groups  # ConvTranspose: (inputs, outputs of a group, ...)
    per = np.repeat(np.broadcast_to(after, (outputs,)).reshape(groups, -1), inputs // groups, axis=0)
    return np.asarray(np.broadcast_to(before, (inputs,))[:, None] / per).reshape(*per.shape, *rest)
