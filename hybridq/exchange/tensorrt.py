"""TensorRT's int8: symmetric per tensor, so that a tensor's range is one number, ``amax = max(|min|, |max|)``."""

from __future__ import annotations

import math

from hybridq import targets
from hybridq.errors import Problem
from hybridq.exchange.losses import computed_otherwise, weights_stay
from hybridq.exchange.mapping import Mapper
from hybridq.exchange.records import lost
from hybridq.exchange.restate import restated
from hybridq.exchange.view import TensorView, View
from hybridq.quant.dtypes import Precision
from hybridq.quant.numerics import float32_text
from hybridq.quant.qparams import Range

BECOMES = {Precision.UINT8: Precision.INT8, Precision.INT16: Precision.FLOAT16}
NOISE = 1e-6


def amax_of(t: TensorView) -> float:
    """The largest magnitude of a tensor stored in 8 bits, as a float32 prints it: the range's, 1 for nothing at all."""
    p = t.stored.qparams
    symmetric = p is not None and p.scheme.is_symmetric
    found = float(p.scale) * 127 if p is not None and symmetric else t.range.amax
    return float(float32_text(found)) if found > 0 else 1.0


def amaxes(view: View) -> dict[str, float]:
    """``amax`` of every tensor that is stored in 8 bits."""
    return {t.name: amax_of(t) for t in view.tensors if t.stored.precision.bits == 8}


def losses(view: View) -> list[Problem]:
    """What ranges cannot say: schemes, layers above 8 bits, repaired weights."""
    problems = restated(view, targets.load("tensorrt"), BECOMES)[1] + [*computed_otherwise(view), *weights_stay(view)]
    high = [x for x in view.layers if x.precision.bits > 8 and view.model.layer[x.name].float_only == ""]
    problems += [
        lost(f'"{x.name}": a range gives no precision: `--to tensorrt-precisions` keeps it in {x.precision}')
        for x in high
    ]
    return problems


def take_amax(mapper: Mapper, name: str, amax: float) -> None:
    """A tensor's ``amax``: our range where that has it, else our range widened or narrowed to it."""
    found = mapper.key(name)
    if found is None:
        mapper.unknown(name, "tensor", mapper.names.known_keys)
        return
    if not (math.isfinite(amax) and amax > 0):
        mapper.problem(name, f"{amax:g} is no range")
        return
    entry = mapper.calibrated.entries[found[0]]
    low = float(entry.min) if isinstance(entry.min, float | int) else 0.0
    high = float(entry.max) if isinstance(entry.max, float | int) else 0.0
    ours = max(-low, high)
    p, symmetric = entry.scale, entry.qtype is not None and entry.qtype.is_symmetric
    exact = float(p) * 127 if symmetric and entry.dtype.bits == 8 and isinstance(p, float) else ours
    if any(abs(amax - x) <= NOISE * amax for x in (ours, exact)) or (ours == 0 and amax == 1.0):
        factor = 1.0
    else:
        factor = amax / ours if ours else 0.0
    mapper.reach(name, Range(low * factor, high * factor) if factor else Range(-amax, amax))
