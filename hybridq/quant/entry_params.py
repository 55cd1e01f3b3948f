"""From an entry to the parameters of its tensor: what was edited in it, and what follows from its range.

Edited fields win, the others are computed. ``min`` and ``max`` are real values and count at every precision; ``qtype``,
``scale``, ``zero_point`` and ``fl`` count for the precision they were written for alone, the entry's ``dtype``. An
edited scale without a zero point keeps the edited end of the range, or else its lower one; ``fl`` is ``scale = 2 **
-fl``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.dtypes import Precision, Scheme, Storage
from hybridq.quant.qparams import QParams, Range, fraction_length, qparams_of_ranges, range_params, rounded_zero_point
from hybridq.quant.records import Entry, Measured, Numbers
from hybridq.quant.weight_ranges import WeightAlgorithm, weight_range

Doubles = NDArray[np.float64]

STEP_FIELDS = ("scale", "zero_point", "fl")  # the numbers of an integer type
OWN_FIELDS = ("qtype", *STEP_FIELDS)  # what counts for the entry's own dtype alone
RANGE_FIELDS = ("min", "max")

WEIGHT_ALGORITHMS: dict[str, WeightAlgorithm] = {str(a): a for a in WeightAlgorithm}
TOGETHER = "gptq"  # step1 rounded the weights together; their scales are those of ``normal``

# What a scheme can express, a wider one can express too.
EXPRESSES = {
    Scheme.ASYMMETRIC: (Scheme.ASYMMETRIC, Scheme.SYMMETRIC, Scheme.DYNAMIC_FIXED_POINT),
    Scheme.SYMMETRIC: (Scheme.SYMMETRIC, Scheme.DYNAMIC_FIXED_POINT),
    Scheme.DYNAMIC_FIXED_POINT: (Scheme.DYNAMIC_FIXED_POINT,),
}


def counting(entry: Entry, edited: frozenset[str], precision: Precision) -> frozenset[str]:
    """Those edited fields that have a say at a precision."""
    return edited if entry.dtype is precision else edited - set(OWN_FIELDS)


def scheme_of(entry: Entry, edited: frozenset[str], storage: Storage) -> Scheme:
    """The scheme of an integer type: the edited one where it counts, else the target's."""
    if "qtype" in counting(entry, edited, storage.dtype) and entry.qtype is not None:
        return entry.qtype
    if storage.scheme is None:
        raise ValueError(f"{storage.dtype} has no quantization parameters")
    return storage.scheme


# -- activations ------------------------------------------------------------------------------------------------------


def activation_range(entry: Entry, edited: frozenset[str], storage: Storage, measured: Measured) -> Range:
    """The real range of an activation stored so: edited ends win, the others are what its algorithm chose."""
    found = measured.chosen(entry.algorithm, storage.ranged)
    low = _scalar(entry.min) if "min" in edited else found.min
    high = _scalar(entry.max) if "max" in edited else found.max
    return Range(min(low, high), max(low, high)).with_zero()


def activation_params(entry: Entry, edited: frozenset[str], storage: Storage, measured: Measured) -> QParams:
    """Parameters of an activation stored as integers."""
    r = activation_range(entry, edited, storage, measured)
    scheme = scheme_of(entry, edited, storage)
    p = range_params(r, replace(storage, scheme=scheme), fixed=measured.fixed)
    return _with_steps(p, np.asarray(r.min), np.asarray(r.max), entry, counting(entry, edited, storage.dtype))


def activation_entry(entry: Entry, edited: frozenset[str], storage: Storage, measured: Measured) -> Entry:
    """The entry of an activation stored so, every unedited number computed."""
    r = activation_range(entry, edited, storage, measured)
    found = replace(entry, dtype=storage.dtype, min=r.min, max=r.max)
    if not storage.dtype.is_integer:
        return replace(found, qtype=None, scale=None, zero_point=None, fl=None)
    return _told(found, edited, activation_params(entry, edited, storage, measured))


# -- weights ----------------------------------------------------------------------------------------------------------


def channel_axis(axis: int | None, shape: tuple[int, ...]) -> int | None:
    """The axis along which a weight can have a scale a channel; None for vectors, whose channels are single numbers."""
    return axis if len(shape) > 1 else None


def is_per_channel(entry: Entry, edited: frozenset[str], storage: Storage, usual: str) -> bool:
    """Whether a weight has a scale a channel: as its ``qmethod`` was edited, else as ``usual``, where storage can."""
    return storage.per_channel and (entry.qmethod if "qmethod" in edited else usual) == "channel"


def weight_params(
    entry: Entry, edited: frozenset[str], storage: Storage, axis: int | None, values: NDArray[np.floating]
) -> QParams:
    """Parameters of a weight stored as integers, along ``axis`` or, with None, as a whole.

    Without edits those recorded for the same type, if any, which spares a search; else they follow from the ``values``.
    """
    recorded = _recorded(entry, storage, axis) if not edited else None
    if recorded is not None:
        return recorded
    scheme = scheme_of(entry, edited, storage)
    low, high = weight_range(values, axis, storage.dtype, scheme, weight_algorithm(entry))
    return _of_weight_range(entry, edited, storage, axis, low, high)


def weight_params_of_edits(
    entry: Entry, edited: frozenset[str], storage: Storage, axis: int | None, channels: int
) -> QParams | None:
    """As ``weight_params`` where the edited fields say everything; None where it takes the weight's values."""
    counted = counting(entry, edited, storage.dtype)
    scaled, centred = counted & {"scale", "fl"}, scheme_of(entry, edited, storage).is_symmetric
    if not (edited >= set(RANGE_FIELDS) or (scaled and (centred or counted & {"zero_point", *RANGE_FIELDS}))):
        return None
    nothing = np.zeros(() if axis is None else channels)
    return _of_weight_range(entry, edited, storage, axis, nothing, nothing)


def weight_algorithm(entry: Entry) -> WeightAlgorithm:
    """The algorithm that chooses a weight's range; weights rounded together have the scales of ``normal``."""
    if entry.algorithm in (TOGETHER, None):
        return WeightAlgorithm.NORMAL
    return WEIGHT_ALGORITHMS[entry.algorithm]


def weight_entry(entry: Entry, edited: frozenset[str], storage: Storage, p: QParams | None) -> Entry:
    """The entry of a weight stored so; without parameters its unedited numbers are left open."""
    found = replace(entry, dtype=storage.dtype)
    if p is not None:
        return _told(found, edited, p)
    open_numbers = {n: None for n in STEP_FIELDS if n not in edited}
    return replace(found, **open_numbers)  # type: ignore[arg-type]


def _recorded(entry: Entry, storage: Storage, axis: int | None) -> QParams | None:
    same = entry.dtype is storage.dtype and entry.qtype is storage.scheme
    if not same or entry.qtype is None or entry.scale is None:
        return None
    scale = np.asarray(entry.scale, np.float32)
    zero = np.zeros(scale.shape, np.int32) if entry.zero_point is None else np.asarray(entry.zero_point, np.int32)
    return QParams(entry.dtype, entry.qtype, scale, np.broadcast_to(zero, scale.shape), axis if scale.ndim else None)


def _of_weight_range(
    entry: Entry, edited: frozenset[str], storage: Storage, axis: int | None, low: Doubles, high: Doubles
) -> QParams:
    """Parameters for a weight's range, whose edited ends win. A weight's range is known: it needs no headroom."""
    low = _spread(entry.min, low.shape) if "min" in edited else low
    high = _spread(entry.max, high.shape) if "max" in edited else high
    low, high = np.minimum(np.minimum(low, high), 0.0), np.maximum(np.maximum(low, high), 0.0)
    p = qparams_of_ranges(low, high, storage.dtype, scheme_of(entry, edited, storage), axis)
    return _with_steps(p, low, high, entry, counting(entry, edited, storage.dtype))


# -- both -------------------------------------------------------------------------------------------------------------


def _with_steps(p: QParams, low: Doubles, high: Doubles, entry: Entry, counted: frozenset[str]) -> QParams:
    """Parameters ``p`` of the range ``[low, high]`` (one a channel where ``p`` has channels) with edited steps."""
    if not counted & set(STEP_FIELDS):
        return p
    scale, zero = p.scale.astype(np.float64), p.zero_point
    if "fl" in counted and entry.fl is not None:
        scale = np.full(scale.shape, 2.0**-entry.fl)
    elif "scale" in counted:
        scale = _spread(entry.scale, scale.shape)
    if "zero_point" in counted:
        zero = _spread(entry.zero_point, scale.shape).astype(np.int32)
    elif p.scheme is Scheme.ASYMMETRIC:
        keeps_max = "max" in counted and "min" not in counted
        exact = p.qmax - high / scale if keeps_max else p.qmin - low / scale
        zero = rounded_zero_point(exact, p.precision).astype(np.int32)
    return QParams(p.precision, p.scheme, scale.astype(np.float32), zero, p.axis)


def _spread(value: Numbers | None, shape: tuple[int, ...]) -> Doubles:
    """An edited number, or a list of one a channel, in the shape of a scale; a list of one number is that number."""
    given = np.asarray(value, np.float64)
    return np.broadcast_to(given, shape) if shape else given.reshape(())


def _told(entry: Entry, edited: frozenset[str], p: QParams) -> Entry:
    """An entry whose unedited fields say ``p``."""
    power = p.scheme is Scheme.DYNAMIC_FIXED_POINT and p.axis is None
    said = {
        "scale": _numbers(p.scale),
        "zero_point": _integers(p.zero_point),
        "fl": fraction_length(float(p.scale)) if power else None,
    }
    return replace(entry, qtype=p.scheme, **{k: v for k, v in said.items() if k not in edited})  # type: ignore[arg-type]


def _numbers(values: NDArray[np.float32]) -> Numbers:
    return tuple(float(x) for x in values) if values.ndim else float(values)


def _integers(values: NDArray[np.int32]) -> int | tuple[int, ...]:
    return tuple(int(x) for x in values) if values.ndim else int(values)


def _scalar(value: Numbers | None) -> float:
    """One number; the first of several."""
    if value is None:
        raise ValueError("an edited end of a range needs a number")
    return float(value[0]) if isinstance(value, tuple) else float(value)
