"""Weights rounded so that their errors cancel in what a layer computes, instead of each to its nearest integer.

Weights are rounded one input after the other; the error of each is made up for by those not rounded yet, in proportion
to how the inputs go together in the calibration samples: ``argmin_q E[((w - s q) x)^2]``, greedily (Frantar et al.,
"GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022; for convolutions, x is the
patch under the kernel). Scales and zero points stay as they are, so nothing changes at run time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import NodeProto

from hybridq.execution.progress import Progress, counted, no_progress
from hybridq.graph.edit import attribute
from hybridq.graph.model import Layer, Model
from hybridq.graph.operators import Layout, lookup, row_of
from hybridq.graph.runtime import Feed
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.dtypes import Scheme
from hybridq.quant.numerics import along
from hybridq.quant.qparams import QParams
from hybridq.repair.algebra import factor, product
from hybridq.repair.observe import observer
from hybridq.repair.portions import portions
from hybridq.storage.kept import NOTHING, Kept
from hybridq.storage.weights import Weights

Array = NDArray[Any]
Doubles = NDArray[np.float64]

ROUNDS = (Layout.CONV, Layout.GEMM, Layout.MATMUL)  # of weights that it knows how to round together
MOST_INPUTS = 2304  # of a product: more would take minutes, and its many errors cancel without help
ROWS = 4096  # products that a layer's inputs are learned from, all samples together
DAMPING = 0.1  # of the mean square of an input, added to each: what few samples show is not trusted too far
BLOCK = 64  # inputs that are rounded before the rest is brought up to date
PORTION = 1 << 20  # weights that are rounded at once, all inputs of some outputs: each is held some ten times
MEMORY = 1 << 25  # numbers in the moments that are gathered at once


def compensated_weights(
    model: Model,
    plan: QuantPlan,
    weights: Weights,
    feeds: Sequence[Feed],
    *,
    threads: int = 0,
    progress: Progress = no_progress,
    kept: Kept = NOTHING,
) -> dict[str, Array]:
    """The integers of every layer of the plan whose weights can be rounded together, by layer.

    Shapes and integer types are those of the plan's weights. ``feeds`` are single samples; some 20 are enough. A layer
    whose inputs are so large that their squares are infinite is left out, and so are weights that several layers read:
    each would need integers of its own, and the file would hold them as often.
    """
    words: dict[str, Any] = {"threads": threads, "progress": progress, "kept": kept}
    return compensations(model, plan, weights, feeds, (DAMPING,), **words)[0]


def compensations(
    model: Model,
    plan: QuantPlan,
    weights: Weights,
    feeds: Sequence[Feed],
    dampings: Sequence[float],
    *,
    threads: int = 0,
    progress: Progress = no_progress,
    kept: Kept = NOTHING,
) -> list[dict[str, Array]]:
    """``compensated_weights`` for several dampings, of one pass over the samples.

    Layers that are ``kept`` of a command that was killed are not rounded again.
    """
    notes = _Notes.of(kept, model, plan, weights, feeds)
    readers = Counter(w.tensor for x in model.layers for w in x.weights)
    fitting = [x for x in model.layers if _fits(x, model, plan) and readers[x.weights[0].tensor] == 1]
    found = [{x.name: q for x in fitting if (q := notes.recalled(x, d)) is not None} for d in dampings]
    missing = (x for x in fitting if not all(x.name in made for made in found))
    for layers in portions(missing, lambda x: _numbers(x, model), MEMORY):
        observe = observer(model, weights, [x.inputs[0] for x in layers], threads=threads)
        moments = dict[str, Doubles]()
        for feed in counted(feeds, "rounding weights together, samples", len(feeds), progress):
            values = observe(feed)
            for layer in layers:
                node, read = model.nodes[layer.node], values[layer.inputs[0]]
                part = _moment(_patches(node, read, layer, max(1, ROWS // len(feeds))), threads)
                held = moments.get(layer.name)
                moments[layer.name] = part.astype(np.float64) if held is None else np.add(held, part, out=held)
        for layer in counted(layers, "rounding weights together, layers", len(layers), progress):
            moment = moments.pop(layer.name)
            if np.isfinite(moment).all():
                node = model.nodes[layer.node]
                for made, damping in zip(found, dampings, strict=True):
                    made[layer.name] = _rounded(node, layer, plan, weights, moment, damping, threads)
                    notes.take_down(layer, damping, made[layer.name])
    return found


@dataclass(frozen=True)
class _Notes:
    """Layers that were rounded, kept by all that their integers hang on."""

    kept: Kept
    plan: QuantPlan
    given: str

    @classmethod
    def of(cls, kept: Kept, model: Model, plan: QuantPlan, weights: Weights, feeds: Sequence[Feed]) -> _Notes:
        """Of a model with these weights and samples."""
        return cls(kept, plan, kept.key(model.sha256, dict(weights) if kept.folder else "", feeds))

    def recalled(self, layer: Layer, damping: float) -> Array | None:
        """The integers of a layer, where they are known."""
        shape = tuple(layer.weights[0].shape)
        return self.kept.get(self._key(layer, damping), shape, self._params(layer).precision.numpy)

    def take_down(self, layer: Layer, damping: float, made: Array) -> None:
        """Keep the integers of a layer."""
        self.kept.put(self._key(layer, damping), made)

    def _params(self, layer: Layer) -> QParams:
        params = self.plan.layers[layer.name].weights[0].qparams
        assert params is not None
        return params

    def _key(self, layer: Layer, damping: float) -> str:
        p = self._params(layer)
        steps = (np.asarray(p.scale), np.asarray(p.zero_point), str(p.precision), str(p.scheme), str(p.axis))
        return self.kept.key("rounded together", self.given, layer.name, damping, steps)


def _fits(layer: Layer, model: Model, plan: QuantPlan) -> bool:
    held = plan.layers[layer.name].weights
    layout = lookup(layer.op).layout
    if layout not in ROUNDS or len(held) != 1 or held[0].index != 1 or held[0].qparams is None:
        return False
    if not layer.inputs or (layout is not Layout.CONV and len(layer.weights[0].shape) != 2):
        return False
    return plan.layers[layer.name].done.bits == 8 and 1 < _inputs(model.nodes[layer.node], layer) <= MOST_INPUTS


def _inputs(node: NodeProto, layer: Layer) -> int:
    """Numbers that one output is a product of."""
    shape = layer.weights[0].shape
    if row_of(node).layout is Layout.CONV:
        return math.prod(shape[1:])
    return shape[1] if attribute(node, "transB") else shape[0]


def _numbers(layer: Layer, model: Model) -> int:
    """In the moments of a layer's inputs."""
    node = model.nodes[layer.node]
    return _groups(node) * _inputs(node, layer) ** 2


def _groups(node: NodeProto) -> int:
    return int(attribute(node, "group", 1))


def _patches(node: NodeProto, values: Array, layer: Layer, rows: int) -> Array:
    """What the weights are multiplied with, at most ``rows`` products: (groups, products, inputs of a group)."""
    if row_of(node).layout is not Layout.CONV:
        flat = values.T if attribute(node, "transA") else values
        flat = flat.reshape(-1, flat.shape[-1])
        return flat[None, _chosen(len(flat), rows)]
    shape = layer.weights[0].shape
    rank, groups = len(shape) - 2, _groups(node)
    strides, dilations, pads = _window(node, values.shape[2:], shape[2:])
    padded = np.pad(values, [(0, 0), (0, 0), *pads])
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, shape[2:], strict=True))
    views = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, s) for s in strides)
    inner = tuple(slice(None, None, d) for d in dilations)
    views = views[(slice(None), slice(None), *steps, *inner)]  # (batch, channels, *positions, *kernel)
    places = (views.shape[0], *views.shape[2 : 2 + rank])
    sample, *position = np.unravel_index(_chosen(math.prod(places), rows), places)
    place: Any = (sample, slice(None), *position)
    taken: Array = views[place]  # (products, channels, *kernel)
    return taken.reshape(len(taken), groups, math.prod(shape[1:])).transpose(1, 0, 2)


def _chosen(count: int, most: int) -> NDArray[np.int64]:
    """All of ``count`` products, or as many as are allowed, at random."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(count).choice(count, most, replace=False))


def _window(
    node: NodeProto, size: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Strides, dilations and pads of a Conv, ``auto_pad`` worked out."""
    ones = [1] * len(kernel)
    strides: Any = attribute(node, "strides", ones)
    dilations: Any = attribute(node, "dilations", ones)
    given: Any = attribute(node, "pads", [0] * (2 * len(kernel)))
    auto: Any = attribute(node, "auto_pad", b"NOTSET")
    if auto in (b"NOTSET", b"VALID"):
        pads = list(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
        return list(strides), list(dilations), pads
    pads = []
    for length, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-length // s) - 1) * s + d * (k - 1) + 1 - length)
        few, more = total // 2, total - total // 2
        pads.append((few, more) if auto == b"SAME_UPPER" else (more, few))
    return list(strides), list(dilations), pads


def _moment(patches: Array, threads: int) -> NDArray[np.float32]:
    """Sum of ``x x^T`` over the products, (groups, inputs, inputs)."""
    rows = np.ascontiguousarray(patches, np.float32)
    return product(np.ascontiguousarray(rows.transpose(0, 2, 1)), rows, threads)


def _rounded(
    node: NodeProto, layer: Layer, plan: QuantPlan, weights: Weights, moment: Doubles, damping: float, threads: int
) -> Array:
    held = plan.layers[layer.name].weights[0]
    params = held.qparams
    assert params is not None
    values = weights[held.tensor]
    scale = np.broadcast_to(along(params.scale, params.axis, values.ndim), values.shape)
    zero = np.broadcast_to(along(params.zero_point, params.axis, values.ndim), values.shape)
    turned = row_of(node).layout is not Layout.CONV and not attribute(node, "transB")
    rows: list[Array] = [
        (x.T if turned else x).reshape(len(moment), -1, moment.shape[1]) for x in (values, scale, zero)
    ]
    found = np.empty(rows[0].shape, params.precision.numpy)
    most = max(1, PORTION // (len(moment) * moment.shape[1]))
    for start in range(0, found.shape[1], most):
        own, steps, zeros = (x[:, start : start + most] for x in rows)
        wanted, step = own.astype(np.float64), steps[..., :1].astype(np.float64)
        part = compensate(wanted, step, zeros[..., :1], moment, params, damping, threads=threads)
        if params.scheme is Scheme.ASYMMETRIC and params.axis is not None:
            part = with_ends(part, np.clip(np.rint(wanted / steps) + zeros, params.qmin, params.qmax))
        found[:, start : start + most] = part
    whole = found.reshape(-1, moment.shape[1])
    return np.asarray((whole.T if turned else whole).reshape(values.shape))


def with_ends(found: Doubles, nearest: Doubles) -> Doubles:
    """Integers that were rounded together, each row with the least and the largest of the nearest ones in it again.

    A toolchain that takes a channel's range from its weights would find another one, and round all of them anew.
    """
    kept = found.copy()
    for pick, place in ((np.min, np.argmin), (np.max, np.argmax)):
        end, at = pick(nearest, axis=-1), place(nearest, axis=-1)
        lost = pick(kept, axis=-1) != end
        rows = np.nonzero(lost)
        kept[(*rows, at[rows])] = end[rows]
    return kept


def compensate(
    values: Doubles,
    scale: Doubles,
    zero_point: NDArray[Any],
    moment: Doubles,
    p: QParams,
    damping: float = DAMPING,
    *,
    threads: int = 0,
) -> Doubles:
    """Integers for ``values`` (groups, outputs, inputs) under ``moment`` (groups, inputs, inputs), as floats.

    ``scale`` and ``zero_point`` have the shape (groups, outputs, 1): one for all inputs of an output.
    """
    order = np.argsort(-np.diagonal(moment, axis1=1, axis2=2), axis=1, kind="stable")
    sorted_moment = np.take_along_axis(np.take_along_axis(moment, order[:, :, None], 1), order[:, None, :], 2)
    feedback = _feedback(sorted_moment, damping, threads)
    wanted = np.take_along_axis(values, order[:, None, :], 2)
    found, errors = np.empty_like(wanted), np.zeros_like(wanted)
    inputs = wanted.shape[2]
    for start in range(0, inputs, BLOCK):
        stop = min(start + BLOCK, inputs)
        owed = product(errors[:, :, :start], feedback[:, :start, start:stop], threads)
        for j in range(start, stop):
            column = slice(j, j + 1)
            own = np.einsum("goi,gij->goj", errors[:, :, start:j], feedback[:, start:j, column])
            aim = wanted[:, :, column] + owed[:, :, j - start : j - start + 1] + own
            q = np.clip(np.rint(aim / scale) + zero_point, p.qmin, p.qmax)
            found[:, :, column] = q
            errors[:, :, column] = wanted[:, :, column] - scale * (q - zero_point)
    result = np.empty_like(found)
    np.put_along_axis(result, np.broadcast_to(order[:, None, :], found.shape), found, 2)
    return result


def _feedback(moment: Doubles, damping: float, threads: int) -> Doubles:
    """``f[k, j]``: how much of input k's error input j makes up for, k before j, shape as the moment's.

    With ``moment = R R^T``, R upper triangular, ``f[k, j] = R[k, j] / R[j, j]``: what of the inputs not yet rounded
    takes back the most of the errors made. The moment is damped until there is such a factor.
    """
    inputs = moment.shape[1]
    mean = np.maximum(np.trace(moment, axis1=1, axis2=2) / inputs, 1e-30)
    while True:
        damped = moment + (damping * mean)[:, None, None] * np.eye(inputs)
        try:
            upper = factor(damped[:, ::-1, ::-1], threads)[:, ::-1, ::-1]
        except np.linalg.LinAlgError:
            damping *= 10
        else:
            return np.asarray(upper / np.diagonal(upper, axis1=1, axis2=2)[:, None, :])
