"""An entry's numbers, and what follows from those a person changed: edited ones win, the others are computed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import INT16_HEADROOM, activation_qparams, fraction_length, qparams_of_ranges
from hybridq.quant.qparams import QParams, Range
from hybridq.quant.records import Entry, Measured, Numbers
from hybridq.targets import Storage

# What a scheme can express, a wider one can express too.
EXPRESSES = {
    Scheme.ASYMMETRIC: (Scheme.ASYMMETRIC, Scheme.SYMMETRIC, Scheme.DYNAMIC_FIXED_POINT),
    Scheme.SYMMETRIC: (Scheme.SYMMETRIC, Scheme.DYNAMIC_FIXED_POINT),
    Scheme.DYNAMIC_FIXED_POINT: (Scheme.DYNAMIC_FIXED_POINT,),
}


def chosen_range(entry: Entry, edited: frozenset[str], measured: Measured | None, precision: Precision) -> Range:
    """The real range of an activation at ``precision``: edited ends win, the others are what its algorithm chose."""
    bits = 16 if precision.is_integer and precision.bits == 16 else 8
    found = measured.ranges.get(entry.algorithm or "", {}).get(bits) if measured else None
    same = "algorithm" not in edited and precision.bits == entry.dtype.bits
    if found is None or same:
        found = Range(_scalar(entry.min), _scalar(entry.max)) if entry.min is not None else Range(0.0, 0.0)
    low = _scalar(entry.min) if "min" in edited else found.min
    high = _scalar(entry.max) if "max" in edited else found.max
    return Range(min(low, high), max(low, high)).with_zero()


def tensor_params(
    r: Range, entry: Entry, edited: frozenset[str], precision: Precision, scheme: Scheme, *, headroom: bool = True
) -> QParams:
    """Parameters of an activation with the range ``r`` (see ``chosen_range``); an edited scale, zero point or fl wins.

    An edited scale without a zero point keeps the edited end of the range, or its lower one. ``scale = 2 ** -fl``.
    """
    p = activation_qparams(r, precision, scheme, headroom=headroom)
    if not edited & {"scale", "zero_point", "fl"}:
        return p
    scale = float(p.scale)
    if "fl" in edited and entry.fl is not None:
        scale = 2.0**-entry.fl
    elif "scale" in edited:
        scale = _scalar(entry.scale)
    zero_point = int(p.zero_point)
    if "zero_point" in edited and isinstance(entry.zero_point, int):
        zero_point = entry.zero_point
    elif scheme is Scheme.ASYMMETRIC:
        keeps_max = "max" in edited and "min" not in edited
        exact = precision.qmax - r.max / scale if keeps_max else precision.qmin - r.min / scale
        zero_point = int(np.clip(np.rint(exact), precision.qmin, precision.qmax))
    return QParams(precision, scheme, np.asarray(scale, np.float32), np.asarray(zero_point, np.int32))


def tensor_numbers(entry: Entry, edited: frozenset[str], stored: Storage, measured: Measured | None) -> Entry:
    """An activation's entry with every unedited number computed from the edited ones, as the tensor is ``stored``."""
    r = chosen_range(entry, edited, measured, stored.dtype)
    entry = replace(entry, min=r.min, max=r.max)
    if not stored.dtype.is_integer or stored.scheme is None:
        return entry
    scheme = entry.qtype if "qtype" in edited and entry.qtype else stored.scheme
    headroom = measured is None or not measured.fixed
    p = tensor_params(r, entry, edited, stored.dtype, scheme, headroom=headroom)
    fl = fraction_length(float(p.scale)) if scheme is Scheme.DYNAMIC_FIXED_POINT else None
    return replace(entry, scale=float(p.scale), zero_point=int(p.zero_point), fl=fl)


def weight_numbers(
    entry: Entry, edited: frozenset[str], stored: Storage, axis: int | None
) -> tuple[Entry, frozenset[str]]:
    """A weight's entry with scale and zero point as its edited numbers say; these then win as if edited.

    A range edited at one end alone takes the other from the entry; ``fl`` gives ``scale = 2 ** -fl``.
    """
    if not stored.dtype.is_integer:
        return entry, edited
    scheme = entry.qtype if "qtype" in edited and entry.qtype else stored.scheme or Scheme.SYMMETRIC
    scale, zero = entry.scale, entry.zero_point
    if "fl" in edited and entry.fl is not None:
        scale = 2.0**-entry.fl
    elif "scale" not in edited and edited & {"min", "max"}:
        per_channel = entry.qmethod == "channel" and isinstance(entry.min, tuple) and isinstance(entry.max, tuple)
        low, high = np.asarray(entry.min or 0.0, np.float64), np.asarray(entry.max or 0.0, np.float64)
        p = qparams_of_ranges(low, high, stored.dtype, scheme, axis if per_channel else None)
        scale, zero = _numbers(p.scale), zero if "zero_point" in edited else _integers(p.zero_point)
    if scheme.is_symmetric and "zero_point" not in edited:
        middle = (stored.dtype.qmin + stored.dtype.qmax + 1) // 2
        zero = (middle,) * len(scale) if isinstance(scale, tuple) else middle
    return replace(entry, scale=scale, zero_point=zero), edited | {"scale", "zero_point"}


def _numbers(values: NDArray[np.float32]) -> Numbers:
    return tuple(float(x) for x in values) if values.ndim else float(values)


def _integers(values: NDArray[np.int32]) -> int | tuple[int, ...]:
    return tuple(int(x) for x in values) if values.ndim else int(values)


def contradiction(p: QParams, r: Range, edited: frozenset[str]) -> str:
    """Which edited end of the range the edited scale or zero point denies by more than a step, in words; else empty."""
    said = p.range
    step = float(p.scale.max()) * 1.01
    factor = INT16_HEADROOM if p.precision.bits == 16 and p.scheme is not Scheme.DYNAMIC_FIXED_POINT else 1.0
    symmetric = p.scheme.is_symmetric
    for name, wanted, given in (("min", r.min, said.min), ("max", r.max, said.max)):
        if name not in edited:
            continue
        fits = abs(given - wanted) <= step or abs(given - wanted * factor) <= step
        if symmetric:  # one end is given by the other; power-of-two scales leave up to a factor of 2
            amax = r.amax * factor
            room = 2.0 if p.scheme is Scheme.DYNAMIC_FIXED_POINT else 1.0
            fits = r.amax - step <= said.amax <= amax * room + step
        if not fits:
            return f"{name} {wanted:g} (they give {given:g})"
    return ""


def is_power_of_two(value: float) -> bool:
    """Whether ``value`` is ``2 ** n``."""
    return value > 0 and math.frexp(value)[0] == 0.5


def _scalar(value: Numbers | None) -> float:
    """One number; the first of several."""
    if value is None:
        return 0.0
    return float(value[0]) if isinstance(value, tuple) else float(value)
