"""AIMET encodings 2.0.0: a list in ONNX's terms, ``{"name", "output_dtype", "y_scale", "y_zero_point", "axis"}``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hybridq.exchange.encodings import encoded, encoded_weights, is_symmetric, losses, put, scales
from hybridq.exchange.mapping import Mapper, load_json, mappings
from hybridq.exchange.records import Export, ExportOptions, Wanted, dumped
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams
from hybridq.quant.records import Calibrated

VERSION = "2.0.0"
_DTYPE = re.compile(r"(u?)(int|float)(\d+)")


def write(view: View, options: ExportOptions) -> Export:
    """Activations first, then weights. A zero point of nothing but zeros of a symmetric tensor is left out."""
    found = [_encoding(t.name, t.stored.precision, t.stored.qparams) for t in encoded(view)]
    found += [_encoding(w.tensor, w.precision, w.qparams) for w in encoded_weights(view)]
    data = {"version": VERSION, "encodings": found}
    return Export({f"{options.name}.encodings": dumped(data)}, losses(view))


def _encoding(name: str, precision: Precision, p: QParams | None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "output_dtype": str(precision)}
    if p is None:
        return found
    zero_points = [int(z) for z in np.atleast_1d(p.zero_point)]
    found["y_scale"] = scales(p) if p.axis is not None else scales(p)[0]
    if not is_symmetric(p) or any(zero_points):
        found["y_zero_point"] = zero_points if p.axis is not None else zero_points[0]
    if p.axis is not None:
        found["axis"] = p.axis
    return found


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return '"encodings"' in text and f'"{VERSION}"' in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """Types, scales and zero points; a name is a weight's where the model has a weight of this name."""
    data, mapper = load_json(text, path), Mapper(path, text, model, calibrated)
    weights = {*mapper.names.weight_keys, *(x.bias for x in model.layers if x.bias)}
    for name, entry in mappings(data.get("encodings")):
        kind = _DTYPE.fullmatch(str(entry.get("output_dtype")))
        try:
            scale = [float(s) for s in np.atleast_1d(entry.get("y_scale", []))]
            zero = [int(z) for z in np.atleast_1d(entry.get("y_zero_point") or 0)]
        except (TypeError, ValueError) as error:
            mapper.problem(name, f"no encoding: {error!r}")
            continue
        if kind is None or (kind[2] == "int" and len(zero) not in (1, len(scale))):
            mapper.problem(name, f"'{entry.get('output_dtype')}' with this scale and zero point is no encoding")
            continue
        bits, signed = int(kind[3]), not kind[1]
        unsigned = [z + (1 << (bits - 1) if signed else 0) for z in zero]
        symmetric = "y_zero_point" not in entry
        put(
            mapper,
            name,
            bits,
            kind[2] == "float",
            symmetric,
            scale,
            unsigned * (len(scale) // len(unsigned) or 1),
            name in weights,
        )
    return mapper.wanted
