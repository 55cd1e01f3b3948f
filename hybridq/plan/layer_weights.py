"""What becomes of a layer's weights and bias."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hybridq.graph import edit, operators
from hybridq.graph.model import Layer, Model, Weight
from hybridq.graph.operators import Kind, Layout
from hybridq.plan.context import Context
from hybridq.quant.dtypes import Precision, Storage
from hybridq.quant.entry_params import TOGETHER, channel_axis, is_per_channel, weight_params
from hybridq.quant.numerics import dequantize, quantize
from hybridq.quant.qparams import QParams
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated, Entry
from hybridq.storage.weights import Weights
from hybridq.targets import Target

BIAS_LIMIT = 2.0**30  # int32 with one bit to spare for the accumulator
FINE_BIAS = 2.0**20  # steps for the bias of a channel without weights


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """One initializer of one layer. ``folded``: integers that ONNX Runtime turns to float once, at load.

    ``rounded`` is the layer whose integers are ready among the weights; empty: each weight goes to the nearest.
    ``picked``: a layer picks rows of the integers, and only those become real numbers.
    """

    tensor: str
    index: int
    precision: Precision
    qparams: QParams | None
    folded: bool
    rounded: str = ""
    picked: bool = False


def integers(plan: WeightPlan, weights: Weights) -> NDArray[np.integer]:
    """What is stored of a weight that has parameters."""
    assert plan.qparams is not None
    return np.asarray(weights.rounded[plan.rounded]) if plan.rounded else quantize(weights[plan.tensor], plan.qparams)


def remains(plan: WeightPlan, weights: Weights) -> NDArray[np.float32]:
    """What a layer computes with where a weight has parameters: its integers, dequantized."""
    assert plan.qparams is not None
    return dequantize(integers(plan, weights), plan.qparams)


@dataclass(frozen=True, slots=True, eq=False)
class BiasPlan:
    """A bias, ``repaired`` or as given, float32 or int32.

    ``q = rint(bias / scale)``, ``scale = s_x * s_w``, zero point 0; ``scale`` is None for float32. ``floored`` are the
    weights with the scales of dead channels raised until the bias fits int32.
    """

    tensor: str
    values: NDArray[np.float32]
    scale: NDArray[np.float32] | None
    floored: tuple[WeightPlan, ...]
    repaired: bool


def entry_key(layer: Layer) -> str:
    """The cfg's key for a layer's weight: ``LAYER:weight`` (a layer with two constants would have been folded)."""
    return layer.name + WEIGHT_SUFFIX


def storage_of(layer: Layer, precision: Precision, target: Target) -> Storage:
    """How the target stores a layer's weights at a precision; constants of elementwise layers go as activations."""
    return target.constant(precision, channels=any(w.axis is not None for w in layer.weights))


def weight_plans(context: Context, layer: Layer, precision: Precision, native: bool) -> tuple[WeightPlan, ...]:
    """The stored form of each of a layer's weights at its final precision."""
    config, weights, calibrated = context.config, context.weights, context.calibrated
    found = []
    for weight in layer.weights:
        if precision is Precision.FLOAT32 or _arrived_in_float(context, layer):
            found.append(WeightPlan(weight.tensor, weight.index, Precision.FLOAT32, None, False))
            continue
        storage = storage_of(layer, precision, context.target)
        if not storage.dtype.is_integer:
            found.append(WeightPlan(weight.tensor, weight.index, storage.dtype, None, True))
            continue
        key = entry_key(layer)
        entry, edited = config.entries[key], config.edited.get(key, frozenset())
        axis = weight_axis(weight, entry, edited, storage, calibrated.weights_per)
        params = weight_params(entry, edited, storage, axis, weights[weight.tensor])
        together = entry.algorithm == TOGETHER and layer.name in weights.rounded
        ready = layer.name if together and _as_recorded(layer, params, calibrated) else ""
        picked = operators.lookup(layer.op).layout is Layout.TABLE and not params.zero_point.any()
        found.append(WeightPlan(weight.tensor, weight.index, params.precision, params, not native, ready, picked))
    return tuple(found)


def _arrived_in_float(context: Context, layer: Layer) -> bool:
    """Whether a model that arrived quantized has no quantizer at a layer's weights, and the cfg asks for none."""
    given = context.calibrated.as_given and context.config.entries[entry_key(layer)].dtype is Precision.FLOAT32
    return given and context.calibrated.entries[entry_key(layer)].dtype is Precision.FLOAT32


def _as_recorded(layer: Layer, params: QParams, calibrated: Calibrated) -> bool:
    """Whether parameters are those that step1 chose, for which it repaired weights and biases."""
    recorded = calibrated.entries.get(entry_key(layer))
    if recorded is None or recorded.dtype is not params.precision or recorded.scale is None:
        return False
    return np.array_equal(np.asarray(recorded.scale, np.float32), params.scale)


def weight_axis(weight: Weight, entry: Entry, edited: frozenset[str], storage: Storage, usual: str) -> int | None:
    """The axis along which a weight has a scale a channel; None where it has one as a whole."""
    return channel_axis(weight.axis, weight.shape) if is_per_channel(entry, edited, storage, usual) else None


def bias_plan(
    context: Context,
    layer: Layer,
    native: bool,
    integer: bool,
    read: QParams | None,
    found: tuple[WeightPlan, ...],
) -> BiasPlan | None:
    """An int32 bias where the layer runs in integers, a repaired float32 one where there is one, else None.

    ``integer``: the target computes the layer in integers, even where it is not ``native`` to ONNX Runtime; its bias is
    then float32, on the same grid.
    """
    default = context.calibrated.layers.get(layer.name)
    stays = default is not None and default.bias == "float32"
    if not (layer.bias and len(found) == 1 and found[0].qparams is not None) or stays:
        return None
    params = found[0].qparams
    values, repaired = _bias_values(context, layer, params)
    if not native or read is None:
        if integer and read is not None:
            values = _on_grid(values, read.scale * params.scale)
        return BiasPlan(layer.bias, values, None, found, repaired) if repaired or integer else None
    bias = np.abs(values.astype(np.float64).reshape(-1))
    chosen = params.scale
    if not context.calibrated.as_given:
        chosen = _dead_channels(context.weights[found[0].tensor], params, bias, float(read.scale))
    floor = bias / (float(read.scale) * BIAS_LIMIT)
    needed = floor if params.axis is not None else floor.max(initial=0.0)
    scale = np.maximum(chosen, needed.astype(np.float32) * np.float32(1.0001))
    if not np.array_equal(scale, params.scale):
        found = (replace(found[0], qparams=replace(params, scale=scale.astype(np.float32)), rounded=""),)
    return BiasPlan(layer.bias, values, (read.scale * scale).astype(np.float32), found, repaired)


def _on_grid(values: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each number of a bias, one a channel, as the nearest multiple of its ``scale``."""
    steps = np.rint(values.reshape(-1).astype(np.float64) / scale)
    return (steps * scale.astype(np.float64)).astype(np.float32).reshape(values.shape)


def _bias_values(context: Context, layer: Layer, params: QParams) -> tuple[NDArray[np.float32], bool]:
    """The bias that goes with weights rounded by ``params``: the repaired one if step1 chose these parameters."""
    repaired = context.weights.biases.get(layer.name)
    if repaired is None or not _as_recorded(layer, params, context.calibrated):
        return np.asarray(context.weights[layer.bias], np.float32), False
    return np.asarray(repaired, np.float32), True


def _dead_channels(
    values: NDArray[np.float32], params: QParams, bias: NDArray[np.float64], scale_x: float
) -> NDArray[np.float32]:
    """Scales in which channels without any weight have one that is fine enough for their bias, their only content."""
    if params.axis is None:
        return params.scale
    dead = ~values.any(axis=tuple(i for i in range(values.ndim) if i != params.axis)) & (bias > 0)
    fine = np.maximum(bias / (scale_x * FINE_BIAS), float(np.finfo(np.float32).tiny))
    return np.where(dead, fine, params.scale).astype(np.float32)


def suits_integers(layer: Layer, weights: Weights, model: Model) -> bool:
    """Whether ONNX Runtime's integer kernel takes the layer as it is.

    Products need constant weights on the right and a constant bias, one number a channel, with no factor of its own;
    products of more than two axes would need weights per tensor.
    """
    row = operators.lookup(layer.op)
    if row.kind is not Kind.COMPUTE:
        return True
    if row.layout is Layout.MATMUL:
        return all(w.index == 1 and len(w.shape) <= 2 for w in layer.weights)
    node = model.nodes[layer.node]
    if [w.index for w in layer.weights] != [1]:
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    axis, shape = layer.weights[0].axis, layer.weights[0].shape
    unscaled = operators.is_unscaled(edit.attributes(node))
    return unscaled and bool(layer.bias) and axis is not None and weights[layer.bias].size == shape[axis]
