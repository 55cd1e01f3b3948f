"""AIMET encodings 0.6.1: ``{tensor: [one encoding a channel]}`` for activations and for parameters."""

from __future__ import annotations

from typing import Any

from hybridq.exchange.encodings import encoded, encoded_weights, is_symmetric, losses, offsets, put, scales
from hybridq.exchange.mapping import Mapper, load_json, mappings
from hybridq.exchange.records import Export, ExportOptions, Wanted, dumped
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams
from hybridq.quant.records import Calibrated

VERSION = "0.6.1"


def write(view: View, options: ExportOptions) -> Export:
    """``min`` and ``max`` are what the integers can say; ``is_symmetric`` is a word."""
    weights = {w.tensor: _encodings(w.precision, w.qparams) for w in encoded_weights(view)}
    data = {
        "version": VERSION,
        "activation_encodings": {t.name: _encodings(t.stored.precision, t.stored.qparams) for t in encoded(view)},
        "param_encodings": weights,
        "quantizer_args": quantizer_args(view),
    }
    return Export({f"{options.name}.encodings": dumped(data)}, losses(view))


def quantizer_args(view: View) -> dict[str, Any]:
    """How AIMET would say that the encodings came about."""
    channel = any(w.qparams is not None and w.qparams.axis is not None for w in view.parameters)
    return {
        "activation_bitwidth": 8,
        "param_bitwidth": 8,
        "dtype": "int",
        "is_symmetric": any(w.qparams is not None and is_symmetric(w.qparams) for w in view.parameters),
        "per_channel_quantization": channel,
        "quant_scheme": "post_training_tf",
    }


def _encodings(precision: Precision, p: QParams | None) -> list[dict[str, Any]]:
    if p is None:
        return [{"bitwidth": precision.bits, "dtype": "float"}]
    steps = p.qmax - p.qmin
    return [
        {
            "bitwidth": precision.bits,
            "dtype": "int",
            "is_symmetric": str(is_symmetric(p)),
            "min": scale * offset,
            "max": scale * (offset + steps),
            "offset": offset,
            "scale": scale,
        }
        for scale, offset in zip(scales(p), offsets(p), strict=True)
    ]


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return '"activation_encodings"' in text and f'"{VERSION[:3]}' in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """Bit widths, scales and offsets of activations and weights."""
    data, mapper = load_json(text, path), Mapper(path, text, model, calibrated)
    for kind in ("param_encodings", "activation_encodings"):
        for name, entry in mappings(data.get(kind)):
            channels = entry["channels"]
            try:
                bits, is_float = int(channels[0]["bitwidth"]), channels[0].get("dtype", "int") == "float"
                scale = [] if is_float else [float(c["scale"]) for c in channels]
                zero = [] if is_float else [-int(c["offset"]) for c in channels]
                symmetric = str(channels[0].get("is_symmetric")) == "True"
            except (KeyError, TypeError, ValueError) as error:
                mapper.problem(name, f"no encoding: {error!r}")
                continue
            put(mapper, name, bits, is_float, symmetric, scale, zero, kind == "param_encodings")
    return mapper.wanted
