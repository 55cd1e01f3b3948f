"""What step1 and a search decided as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated, Entry, LayerDefault, Measured

Json = dict[str, Any]


def to_json(value: Any) -> Any:
    """Dataclasses, enums and tuples as JSON; None and empty values are left out of dataclasses."""
    if is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in fields(value))
        return {k: to_json(v) for k, v in pairs if v is not None and v != ""}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def calibrated_from_json(data: Json) -> Calibrated:
    """The inverse of ``to_json``."""
    return Calibrated(
        target=data["target"],
        default=Precision(data["default"]),
        algorithm=data["algorithm"],
        weights_per=data["weights_per"],
        entries=entries_from_json(data["entries"]),
        measured={k: _measured_from_json(v) for k, v in data["measured"].items()},
        layers={k: _default_from_json(v) for k, v in data["layers"].items()},
        rounded=tuple(data.get("rounded", ())),
        equalized=tuple(data.get("equalized", ())),
        as_given=data.get("as_given", False),
        apart={k: _measured_from_json(v) for k, v in data.get("apart", {}).items()},
    )


def entries_from_json(data: Json) -> dict[str, Entry]:
    """Entries by their keys."""
    return {k: _entry_from_json(v) for k, v in data.items()}


def _default_from_json(data: Json) -> LayerDefault:
    only = Precision(data["weight_only"]) if "weight_only" in data else None
    return LayerDefault(Precision(data["precision"]), data.get("why", ""), only, data.get("bias", ""))


def _entry_from_json(data: Json) -> Entry:
    numbers: Json = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k not in ("dtype", "qtype")}
    return Entry(dtype=Precision(data["dtype"]), qtype=Scheme(data["qtype"]) if "qtype" in data else None, **numbers)


def _measured_from_json(data: Json) -> Measured:
    ranges = {
        algorithm: {int(bits): _range_from_json(r) for bits, r in by_bits.items()}
        for algorithm, by_bits in data["ranges"].items()
    }
    return Measured(_range_from_json(data["range"]), ranges, data["fixed"], data.get("unbounded", False))


def _range_from_json(data: Json) -> Range:
    return Range(data["min"], data["max"])
