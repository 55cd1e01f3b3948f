"""Ours, complete: what the cfg asks, and what every layer, tensor, weight and bias became."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from hybridq.config.write import value_text
from hybridq.errors import ConfigError, Problem
from hybridq.exchange.mapping import Mapper, load_json
from hybridq.exchange.records import Export, ExportOptions, Wanted
from hybridq.exchange.view import BiasView, TensorView, View, WeightView
from hybridq.graph.model import Model
from hybridq.plan.quant_plan import Stored
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams
from hybridq.quant.records import FIELDS, WEIGHT_SUFFIX, Calibrated

FORMAT = "hybridq.parameters/1"


def write(view: View, options: ExportOptions) -> Export:
    """Nothing is lost but the weights themselves, which are step1's."""
    data = {
        "format": FORMAT,
        "model": {"name": view.model.name, "sha256": view.model.sha256},
        "target": view.target,
        "asked": {"line": _first_line(view), "layers": view.asked},
        "edits": {k: _edited(view, k) for k, fields in view.config.edited.items() if fields},
        "layers": {x.name: {k: v for k, v in asdict(x).items() if k != "name"} for x in view.layers},
        "tensors": {t.name: _tensor(t, view) for t in view.tensors},
        "weights": {w.tensor: _weight(w) for w in view.parameters},
        "biases": {b.tensor: _bias(b) for b in view.biases},
    }
    return Export({f"{options.name}.json": (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()})


def _first_line(view: View) -> int:
    return min((c.line for c in view.config.choices.values() if c.selector), default=0)


def _edited(view: View, key: str) -> dict[str, str]:
    entry, fields = view.config.entries[key], view.config.edited[key]
    shown = {e.field for e in view.config.edits if e.key == key}
    return {f: value_text(getattr(entry, f)) for f in FIELDS if f in fields and f in shown}


def numbers(stored: Stored) -> dict[str, Any]:
    """Type, scheme, scale, zero point and axis, as far as they apply."""
    p = stored.qparams
    if p is None:
        return {"dtype": str(stored.precision)}
    return {
        "dtype": str(stored.precision),
        "scheme": str(p.scheme),
        "scale": p.scale.tolist(),
        "zero_point": p.zero_point.tolist(),
        "axis": p.axis,
    }


def _tensor(t: TensorView, view: View) -> dict[str, Any]:
    narrower = view.plan.groups[t.group].conversions
    return {
        **numbers(t.stored),
        "min": t.range.min,
        "max": t.range.max,
        "observed": [t.observed.min, t.observed.max],
        "layer": t.layer,
        "group": t.group,
        "aliases": t.aliases,
        "conversions": {str(k): numbers(v) for k, v in narrower.items()},
    }


def _weight(w: WeightView) -> dict[str, Any]:
    return {**numbers(Stored(w.precision, w.qparams)), "layer": w.layer, "shape": w.shape, "together": w.together}


def _bias(b: BiasView) -> dict[str, Any]:
    scale = None if b.scale is None else np.asarray(b.scale).tolist()
    return {"dtype": "float32" if scale is None else "int32", "scale": scale, "layer": b.layer, "repaired": b.repaired}


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return f'"{FORMAT}"' in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """What was asked and edited, and parameters where they differ all the same."""
    data = load_json(text, path)
    if data.get("format") != FORMAT:
        raise ConfigError(Problem(f"format {data.get('format')!r}, not {FORMAT!r}", path, 1))
    mapper = Mapper(path, text, model, calibrated)
    wanted = mapper.wanted
    try:
        asked = data["asked"]
        wanted.selectors = {str(k): _value(str(v)) for k, v in asked["layers"].items()}
        wanted.line = int(asked["line"])
        for key, fields in data["edits"].items():
            if key in calibrated.entries:
                wanted.edits[key] = {str(k): str(v) for k, v in fields.items()}
            else:
                mapper.unknown(key, "tensor", mapper.names.known_keys)
        for name, found in data["tensors"].items():
            mapper.tensor(name, stored_of(found))
        _weights(data["weights"], mapper)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(Problem(f"damaged: {error!r}", path, 1)) from error
    return wanted


def _weights(found: dict[str, Any], mapper: Mapper) -> None:
    for name, w in found.items():
        key, stored = mapper.names.weight_keys.get(name, ""), stored_of(w)
        if not key:
            mapper.unknown(name, "weight", list(mapper.names.weight_keys))
        elif stored.qparams is not None and key.removesuffix(WEIGHT_SUFFIX) in mapper.model.layer:
            mapper.wanted.weights[key] = stored.qparams


def stored_of(found: dict[str, Any]) -> Stored:
    """The inverse of ``numbers``. Raises ValueError, TypeError or KeyError where it is none."""
    precision = Precision(found["dtype"])
    if not precision.is_integer:
        return Stored(precision)
    scale, zero = np.asarray(found["scale"], np.float32), np.asarray(found["zero_point"])
    return Stored(precision, QParams(precision, Scheme(found["scheme"]), scale, zero, found["axis"]))


def _value(word: str) -> str:
    kind, _, bits = word.partition(":")
    return f"{{weight_only: {bits}}}" if kind == "weight_only" else word
