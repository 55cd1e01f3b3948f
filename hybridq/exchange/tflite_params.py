"""TFLite's parameters of every tensor, as its schema has them: ``scale[]``, ``zero_point[]``, ``quantized_dimension``.

Activations int8 asymmetric (int16 symmetric in its 16x8 mode), weights int8 symmetric per channel, bias int32 (int64 in
16x8) at ``s_x * s_w``; ``real = (q - zero_point) * scale``. ``quantized_dimension`` counts in TFLite's layout of
weights (OHWI; 1HWC of depthwise ones), tensors have their ONNX names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridq import targets
from hybridq.exchange.losses import computed_otherwise, weights_stay
from hybridq.exchange.records import Export, ExportOptions, dumped
from hybridq.exchange.restate import restated
from hybridq.exchange.view import View, WeightView
from hybridq.graph.edit import attributes
from hybridq.graph.operators import is_depthwise, lookup
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams

BECOMES = {Precision.UINT8: Precision.INT8, Precision.FLOAT16: Precision.FLOAT32}
DEPTHWISE_DIMENSION = 3


def write(view: View, options: ExportOptions) -> Export:
    """Activations, weights and biases by name; float ones say so."""
    found, problems = restated(view, targets.load("tflite"), BECOMES)
    tensors: dict[str, Any] = {t.name: _numbers(t.stored.precision, t.stored.qparams, 0) for t in found.tensors}
    for w in found.parameters:
        tensors[w.tensor] = _numbers(w.precision, w.qparams, _dimension(w, view))
    for name, bias in found.bias.items():
        tensors[bias.tensor] = _bias(name, found)
    problems += [*computed_otherwise(view), *weights_stay(view)]
    return Export({f"{options.name}.tflite.json": dumped({"model": options.name, "tensors": tensors})}, problems)


def _numbers(precision: Precision, p: QParams | None, dimension: int) -> dict[str, Any]:
    if p is None:
        return {"type": str(precision).upper()}
    return {
        "type": str(precision).upper(),
        "scale": [float(s) for s in np.atleast_1d(p.scale)],
        "zero_point": [int(z) for z in np.atleast_1d(p.zero_point)],
        "quantized_dimension": dimension,
    }


def _dimension(w: WeightView, view: View) -> int:
    """The channel axis in TFLite's layout: the first one but for depthwise weights."""
    layer = view.model.layer[w.layer]
    depthwise = is_depthwise(lookup(layer.op).layout, attributes(view.model.nodes[layer.node]), w.shape)
    return DEPTHWISE_DIMENSION if depthwise else 0


def _bias(layer: str, view: View) -> dict[str, Any]:
    """``s_x * s_w`` of every channel; float where either is."""
    inputs, weights = view.model.layer[layer].inputs, view.weights_of.get(layer, ())
    read = view.tensor[inputs[0]].stored if inputs and inputs[0] in view.tensor else None
    if read is None or read.qparams is None or not weights or weights[0].qparams is None:
        return {"type": "FLOAT32"}
    scale = np.atleast_1d(read.qparams.scale * weights[0].qparams.scale)
    wide = "INT64" if read.precision is Precision.INT16 else "INT32"
    zeros = [0] * len(scale)
    return {"type": wide, "scale": [float(s) for s in scale], "zero_point": zeros, "quantized_dimension": 0}
