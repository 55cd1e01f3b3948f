"""nncase's quantization scheme, which ``ptq_options.quant_scheme`` takes: a type and a range a tensor, as JSON.

Types are ``u8 i8 i16 f16 f32``; the range of a weight is one a channel (``by_channel``). nncase chooses scales itself.
"""

from __future__ import annotations

from typing import Any

from hybridq.exchange.losses import computed_otherwise, weights_stay
from hybridq.exchange.records import Export, ExportOptions, dumped
from hybridq.exchange.view import TensorView, View, WeightView
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import Range

WORDS = {
    Precision.UINT8: "u8",
    Precision.INT8: "i8",
    Precision.INT16: "i16",
    Precision.FLOAT16: "f16",
    Precision.FLOAT32: "f32",
}


def write(view: View, options: ExportOptions) -> Export:
    """Every tensor and weight."""
    outputs = [_tensor(t) for t in view.tensors]
    outputs += [_weight(w, view) for w in view.parameters]
    data = {"Version": "1.0", "Model": None, "Outputs": outputs}
    return Export({f"{options.name}.quant_scheme.json": dumped(data)}, [*computed_otherwise(view), *weights_stay(view)])


def _tensor(t: TensorView) -> dict[str, Any]:
    return _entry(t.name, WORDS[t.stored.precision], [t.range], "by_tensor")


def _weight(w: WeightView, view: View) -> dict[str, Any]:
    p = w.qparams
    if p is None:
        values = view.values(w)
        whole = Range(float(values.min(initial=0.0)), float(values.max(initial=0.0)))
        return _entry(w.tensor, WORDS[w.precision], [whole], "by_tensor")
    low = ((p.qmin - p.zero_point) * p.scale).reshape(-1)
    high = ((p.qmax - p.zero_point) * p.scale).reshape(-1)
    ranges = [Range(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return _entry(w.tensor, WORDS[w.precision], ranges, "by_tensor" if p.axis is None else "by_channel")


def _entry(name: str, word: str, ranges: list[Range], mode: str) -> dict[str, Any]:
    spans = [{"Min": r.min, "Max": r.max, "IsFull": False} for r in ranges]
    return {"Name": name, "DataType": word, "DataRange": spans, "DataRangeMode": mode}
