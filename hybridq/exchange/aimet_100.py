"""AIMET encodings 1.0.0: lists of ``{"name", "dtype", "enc_type", "is_sym", "bw", "scale", "offset"}``."""

from __future__ import annotations

from typing import Any

from hybridq.exchange.aimet_061 import quantizer_args
from hybridq.exchange.encodings import encoded, encoded_weights, is_symmetric, losses, offsets, put, scales
from hybridq.exchange.mapping import Mapper, load_json, mappings
from hybridq.exchange.records import Export, ExportOptions, Wanted, dumped
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams
from hybridq.quant.records import Calibrated

VERSION = "1.0.0"


def write(view: View, options: ExportOptions) -> Export:
    """One object an encoding."""
    data = {
        "version": VERSION,
        "activation_encodings": [_encoding(t.name, t.stored.precision, t.stored.qparams) for t in encoded(view)],
        "param_encodings": [_encoding(w.tensor, w.precision, w.qparams) for w in encoded_weights(view)],
        "quantizer_args": quantizer_args(view),
        "excluded_layers": [],
    }
    return Export({f"{options.name}.encodings": dumped(data)}, losses(view))


def _encoding(name: str, precision: Precision, p: QParams | None) -> dict[str, Any]:
    if p is None:
        return {"name": name, "dtype": "FLOAT", "enc_type": "PER_TENSOR", "bw": precision.bits}
    return {
        "name": name,
        "dtype": "INT",
        "enc_type": "PER_TENSOR" if p.axis is None else "PER_CHANNEL",
        "is_sym": is_symmetric(p),
        "bw": precision.bits,
        "scale": scales(p),
        "offset": offsets(p),
    }


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return '"activation_encodings"' in text and f'"{VERSION}"' in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """Bit widths, scales and offsets of activations and weights."""
    data, mapper = load_json(text, path), Mapper(path, text, model, calibrated)
    for kind in ("param_encodings", "activation_encodings"):
        for name, entry in mappings(data.get(kind)):
            try:
                bits, is_float = int(entry["bw"]), entry["dtype"] == "FLOAT"
                scale = [] if is_float else [float(s) for s in entry["scale"]]
                zero = [] if is_float else [-int(o) for o in entry["offset"]]
            except (KeyError, TypeError, ValueError) as error:
                mapper.problem(name, f"no encoding: {error!r}")
                continue
            symmetric = bool(entry.get("is_sym"))
            put(mapper, name, bits, is_float, symmetric, scale, zero, kind == "param_encodings")
    return mapper.wanted
