"""How far a result can differ where a format cannot say what is stored here: one line a tensor or layer, in decibels.

A coarser step raises the noise of a tensor by ``20 log10(step / step before)``. A weight's noise is told as the layer's
own signal-to-noise ratio, ``10 log10(sum w^2 / sum (w - kept)^2)``: what the layer's output has of it, for inputs whose
values do not depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hybridq.errors import Problem
from hybridq.exchange.records import lost
from hybridq.exchange.view import TensorView, View, WeightView
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import QParams


def weight_sqnr(values: NDArray[np.float32], kept: NDArray[np.float32]) -> float:
    """``10 log10(sum w^2 / sum (w - kept)^2)`` in decibels; infinite where nothing is lost."""
    signal = float(np.square(values, dtype=np.float64).sum())
    noise = float(np.square(values.astype(np.float64) - kept).sum())
    return math.inf if noise == 0.0 else 10 * math.log10(max(signal, 1e-300) / noise)


def coarser(before: QParams, after: QParams) -> float:
    """How much more noise a tensor has after a change of its parameters, in decibels (negative: less)."""
    return 20 * math.log10(float(np.max(after.scale)) / float(np.max(before.scale)))


def step_loss(t: TensorView, after: QParams, why: str) -> Iterator[Problem]:
    """A line where a tensor's step grows by more than rounding."""
    before = t.stored.qparams
    if before is not None and abs(change := coarser(before, after)) > 1e-4:
        yield lost(f'"{t.name}": {why}: its noise changes by {change:+.1f} dB')


def range_change(w: WeightView, view: View, after: QParams, why: str) -> Problem:
    """A line for a weight whose parameters change."""
    values = view.values(w)
    old, new = weight_sqnr(values, view.kept(w)), weight_sqnr(values, fake_quantize(values, after))
    return lost(f'"{w.layer}": {why}: expect {new:.1f} dB on this layer\'s weights, here {old:.1f} dB')


def weights_stay(view: View) -> Iterator[Problem]:
    """Repairs that live in weights and biases, which a format of parameters does not carry."""
    for w in view.parameters:
        if w.together and w.qparams is not None:
            values = view.values(w)
            nearest = weight_sqnr(values, fake_quantize(values, w.qparams))
            yield lost(f'"{w.layer}": weights rounded together stay here: expect {nearest:.1f} dB on this layer')
    for name in view.calibrated.equalized:
        yield lost(f'"{name}": its channels were equalized: these numbers belong to the model that `onnx-float` writes')
    for b in view.biases:
        if b.repaired:
            yield _bias_stays(b.layer, b.values, view)


def _bias_stays(layer: str, values: NDArray[np.float32], view: View) -> Problem:
    given = np.asarray(view.weights[view.model.layer[layer].bias], np.float64).reshape(-1)
    shift = float(np.abs(values.reshape(-1) - given).max(initial=0.0))
    output = view.tensor[layer].stored.qparams if layer in view.tensor else None
    steps = f", {shift / float(output.scale):.1f} steps of its output" if output is not None else ""
    return lost(f'"{layer}": its repaired bias stays here: expect outputs shifted by up to {shift:.3g}{steps}')


def computed_otherwise(view: View) -> Iterator[Problem]:
    """Layers that compute in one precision and write another, which a format of tensors cannot tell."""
    for layer in view.layers:
        tensor = view.tensor.get(layer.name)
        free = not view.model.layer[layer.name].float_only
        if free and tensor is not None and tensor.stored.precision is not layer.precision:
            done = tensor.stored.precision
            yield lost(f'"{layer.name}": computes in {layer.precision} here; by its {done} output it reads as {done}')
