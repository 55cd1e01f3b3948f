"""MNN's compression parameters, which ``mnnconvert --compressionParamsFile`` takes, as the JSON of its protobuf.

A layer is known by the tensor it writes, behind the activation it absorbs. What is read and written is asymmetric int8
a tensor, weights are symmetric int8 a channel. Convolutions alone have 8-bit kernels (a Gemm becomes one); a layer that
is not listed, and every other operator, computes in float. A layer is listed where it reads a model input or what
another such layer writes, and no MaxPool reads what it writes: what MNN 3.6.1 on x86 computes in integers behind or
between listed layers loses more (means, Concats), or nearly all (a sum with an activation, a MaxPool).
"""

from __future__ import annotations

from typing import Any

from hybridq.exchange.losses import weights_stay
from hybridq.exchange.records import Export, ExportOptions, dumped, lost
from hybridq.exchange.restate import in_terms
from hybridq.exchange.view import LayerView, TensorView, View, WeightView
from hybridq.quant.dtypes import Precision

KERNELS = ("Conv", "Gemm")
BECOMES = {Precision.UINT8: Precision.INT8, Precision.INT16: Precision.FLOAT32, Precision.FLOAT16: Precision.FLOAT32}


def write(view: View, options: ExportOptions) -> Export:
    """One entry a layer that reads and writes 8 bits."""
    theirs, problems = in_terms(view, "tflite", "mnn", BECOMES)
    layers = [_layer(x, theirs) for x in theirs.layers if _is_int8(x, theirs)]
    data = {
        "version": "0.0.0",
        "algo": [{"type": "QUANTIZE", "quantParams": {"roundMode": "ROUND_HALF_TO_EVEN", "layer": layers}}],
    }
    listed = {x["output"][0]["name"] for x in layers}
    problems += [
        lost(f'"{x.name}": mnn computes it in float: {_why_float(x, theirs)}')
        for x in theirs.layers
        if x.op in KERNELS and x.precision.bits == 8 and x.name not in listed
    ]
    return Export({f"{options.name}.compression.json": dumped(data)}, [*problems, *weights_stay(view)])


def _why_float(layer: LayerView, view: View) -> str:
    if layer.inputs[:1] and not _is_plain(layer.inputs[0], view):
        return "it reads what no convolution writes"
    if _is_pooled(layer.name, view):
        return "a MaxPool reads what it writes, which MNN gets wrong in integers"
    return "what it reads or writes is stored in float"


def _is_int8(layer: LayerView, view: View) -> bool:
    weights = view.weights_of.get(layer.name, ())
    ends = [view.tensor.get(name) for name in (*layer.inputs[:1], layer.name)]
    stored = all(t is not None and t.stored.qparams is not None for t in ends)
    sound = layer.inputs[:1] != () and _is_plain(layer.inputs[0], view) and not _is_pooled(layer.name, view)
    return sound and layer.op in KERNELS and len(weights) == 1 and weights[0].qparams is not None and stored


def _is_plain(tensor: str, view: View) -> bool:
    """Whether a tensor enters the model, or a layer with an 8-bit kernel writes it."""
    writer = view.model.layer.get(tensor)
    return tensor in view.model.inputs or (writer is not None and writer.op in KERNELS)


def _is_pooled(tensor: str, view: View) -> bool:
    """Whether a MaxPool reads a tensor, or what it becomes without another computation."""
    group = view.model.group_of.get(tensor)
    makers = (view.model.producers.get(t) for t in (group.tensors if group else ()))
    return any(maker is not None and maker.op_type == "MaxPool" for maker in makers)


def _layer(layer: LayerView, view: View) -> dict[str, Any]:
    weight = view.weights_of[layer.name][0]
    ends = (_tensor(view.tensor[name]) for name in (layer.inputs[0], layer.name))
    source, result = ends
    return {"input": [source], "weight": [_weight(weight)], "output": [result], "method": "QAT"}


def _tensor(t: TensorView) -> dict[str, Any]:
    p = t.stored.qparams
    assert p is not None
    return {
        "name": t.name,
        "bits": 8,
        "scales": [float(p.scale)],
        "zeroPoint": int(p.zero_point),
        "clampMin": p.qmin,
        "clampMax": p.qmax,
    }


def _weight(w: WeightView) -> dict[str, Any]:
    p = w.qparams
    assert p is not None
    count = w.shape[w.axis] if w.axis is not None else 1
    scales = [float(s) for s in p.scale.reshape(-1)]
    scales = scales * count if len(scales) == 1 else scales
    return {"name": w.tensor, "bits": 8, "scales": scales, "clampMin": p.qmin, "clampMax": p.qmax}
