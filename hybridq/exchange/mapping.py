"""A foreign file's names to ours, and what it says of them collected into a ``Wanted``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hybridq import targets
from hybridq.config.names import Names
from hybridq.config.write import quote
from hybridq.errors import ConfigError, Problem
from hybridq.exchange.records import Wanted
from hybridq.graph.model import Model
from hybridq.plan.quant_plan import Stored
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams, Range
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated
from hybridq.quant.words import nearest_hint

HINTS = 20  # names for which a near one is looked up; further ones would take long
AFTER, MOVED, BEFORE = 2, 1, 0  # how well a tensor's name fits: after its activation, moved there, before it
Json = dict[str, Any]


@dataclass
class Mapper:
    """Collects what one file says; ``path`` and ``text`` are the file's."""

    path: str
    text: str
    model: Model
    calibrated: Calibrated
    wanted: Wanted = field(default_factory=Wanted)
    ranks: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = Names(self.model, self.calibrated.entries)
        self.target = targets.load(self.calibrated.target)

    def tensor(self, name: str, stored: Stored) -> None:
        """An activation is stored so."""
        found = self.key(name)
        if found is None:
            self.unknown(name, "tensor", self.names.known_keys)
        elif found[1] > self.ranks.get(found[0], -1):
            self.ranks[found[0]] = found[1]
            self.wanted.parameters[found[0]] = stored
            self.wanted.seen += 1

    def reach(self, name: str, r: Range) -> None:
        """An activation has this real range; several names of one group make one range."""
        found = self.key(name)
        if found is None:
            self.unknown(name, "tensor", self.names.known_keys)
            return
        key, rank = found
        best = self.ranks.get(key, -1)
        if rank >= best:
            old = self.wanted.ranges.get(key)
            self.wanted.ranges[key] = old.union(r) if old is not None and rank == best else r
            self.ranks[key] = rank
            self.wanted.seen += 1

    def weight(self, name: str, p: QParams | None, precision: Precision) -> None:
        """A weight is stored so; a bias, whose parameters follow, is passed over."""
        key = self.names.weight_keys.get(name, "")
        if not key and name in {x.bias for x in self.model.layers}:
            return
        if not key:
            self.unknown(name, "weight", list(self.names.weight_keys))
            return
        self.wanted.seen += 1
        if self._tells(precision):
            self.layer(key.removesuffix(WEIGHT_SUFFIX), precision)
        if p is not None:
            self.wanted.weights[key] = p

    def _tells(self, precision: Precision) -> bool:
        """Whether weights of this precision are those of one precision of layers alone."""
        supports = self.target.precisions
        width = supports[precision].weight.dtype.bits
        return [s.weight.dtype.bits for s in supports.values()].count(width) == 1

    def layer(self, name: str, precision: Precision) -> None:
        """A layer, by any of its names, computes in this precision."""
        layers = self.names.layers(name)
        if not layers:
            self.unknown(name, "layer", self.names.known)
        for one in layers:
            why = self.model.layer[one].float_only
            if why and precision.is_integer:
                self.problem(name, f"'{one}' must stay float32: {why}")
            elif not why:
                self.wanted.layers[one] = precision
                self.wanted.seen += 1

    def key(self, name: str) -> tuple[str, int] | None:
        """The key of the entry that a tensor's name means, and how well the name fits."""
        key = self.names.key(name)
        if not key or self.names.is_weight(key):
            return None
        layer = self.model.layer.get(self.model.names.get(name, ""))
        if layer is None:
            return key, AFTER if name in self.model.inputs else MOVED
        return key, AFTER if not layer.activation or name in (layer.name, layer.activation) else BEFORE

    def precision(self, bits: int, *, is_float: bool = False) -> Precision | None:
        """The target's precision of so many bits; None where it has none."""
        if is_float:
            floats = [p for p in self.target.precisions if not p.is_integer]
            return next((p for p in floats if p.bits == bits), floats[0] if floats else None)
        if self.calibrated.default.is_integer and self.calibrated.default.bits == bits:
            return self.calibrated.default
        return next((p for p in self.target.precisions if p.is_integer and p.bits == bits), None)

    def unknown(self, name: str, what: str, known: list[str]) -> None:
        """A line for a name that nothing here has."""
        few = len(self.wanted.problems) < HINTS
        self.problem(name, f"there is no {what} '{name}'", nearest_hint(name, known) if few else "")

    def problem(self, name: str, message: str, hint: str = "") -> None:
        """A line for what is not taken over, with its place in the file."""
        line, column = place_of(self.text, name)
        self.wanted.problems.append(
            Problem(
                f"{quote(name)} is not imported: {message}",
                self.path,
                line,
                column,
                column + len(name) + 2 if line else 0,
                hint=hint,
                severity="warning",
                code="unmapped",
            )
        )


def place_of(text: str, name: str) -> tuple[int, int]:
    """Line and column of a name in double quotes or as a word of its own; zeros where it does not stand so."""
    at = text.find(json.dumps(name, ensure_ascii=False))
    at = at if at >= 0 else text.find(name)
    if at < 0:
        return 0, 0
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def parameters(
    precision: Precision, scale: object, unsigned_zero: object, symmetric: bool, axis: int | None = None
) -> QParams:
    """Parameters whose zero point is told as that of unsigned integers. Raises ValueError where they make no sense."""
    factor, zero = np.asarray(scale, np.float32), np.asarray(unsigned_zero)
    scheme = Scheme.SYMMETRIC if symmetric else Scheme.ASYMMETRIC
    if factor.size == 1 and axis is None:
        factor, zero = factor.reshape(()), zero.reshape(())
    return QParams(precision, scheme, factor, np.broadcast_to(zero + precision.qmin, factor.shape), axis)


def load_json(text: str, path: str) -> Json:
    """A JSON object. Raises ConfigError with the place where it is none."""
    try:
        found = json.loads(text)
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise ConfigError(Problem(f"no JSON: {getattr(error, 'msg', error)}", path, line, column)) from error
    except RecursionError as error:
        raise ConfigError(Problem("no JSON that any tool writes: nested too deeply", path, 1)) from error
    if not isinstance(found, dict):
        raise ConfigError(Problem("no JSON object", path, 1))
    return found


def mappings(found: object) -> list[tuple[str, Mapping[str, Any]]]:
    """Entries by name, from ``{name: [entry, ...]}`` or ``[{"name": ..., ...}]``; what is neither is left out."""
    if isinstance(found, Mapping):
        pairs = [(k, v if isinstance(v, list) else [v]) for k, v in found.items()]
        return [(k, {"channels": v}) for k, v in pairs if v and all(isinstance(x, Mapping) for x in v)]
    named = found if isinstance(found, list) else []
    return [(x["name"], x) for x in named if isinstance(x, Mapping) and isinstance(x.get("name"), str)]
