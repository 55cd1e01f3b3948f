"""A result in another target's terms: what its toolchain will make of the same choices and ranges.

``real = scale * (q - zero_point)``: signed and unsigned integers of one width say the same once the zero point moves by
half their number, so that alone loses nothing. A scheme that cannot say a range takes the next wider one; a precision
that a target lacks becomes the one its table gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hybridq import targets
from hybridq.errors import Problem
from hybridq.exchange.losses import coarser, range_change, step_loss
from hybridq.exchange.records import lost
from hybridq.exchange.view import TensorView, View, WeightView
from hybridq.plan.quant_plan import Stored
from hybridq.quant.dtypes import Precision, Scheme, Storage
from hybridq.quant.qparams import QParams, qparams_of_ranges
from hybridq.quant.weight_ranges import weight_range
from hybridq.targets import Target


def restated(view: View, target: Target, becomes: Mapping[Precision, Precision]) -> tuple[View, list[Problem]]:
    """The view with every tensor and weight as ``target`` stores it, and a line for each that differs.

    ``becomes`` maps our precisions to the target's; those that are not in it stay as they are.
    """
    problems: list[Problem] = []
    tensors = tuple(_tensor(t, target, becomes, problems) for t in view.tensors)
    weights = tuple(_weight(w, view, target, becomes, problems) for w in view.parameters)
    layers = tuple(replace(x, precision=becomes.get(x.precision, x.precision)) for x in view.layers)
    problems += [
        lost(f'"{x.name}": {target.name} has no {x.precision}; its layers become {y.precision}')
        for x, y in zip(view.layers, layers, strict=True)
        if x.precision is not y.precision and (x.precision.bits, y.precision.bits) not in ((8, 8), (16, 32))
    ]
    return replace(view, tensors=tensors, parameters=weights, layers=layers), problems


def in_terms(view: View, like: str, name: str, becomes: Mapping[Precision, Precision]) -> tuple[View, list[Problem]]:
    """As ``restated``, for a toolchain ``name`` that stores values as the target ``like`` does."""
    return restated(view, replace(targets.load(like), name=name), becomes)


def _tensor(
    t: TensorView, target: Target, becomes: Mapping[Precision, Precision], problems: list[Problem]
) -> TensorView:
    precision = becomes.get(t.stored.precision, t.stored.precision)
    storage = target.precisions[precision].activation if precision in target.precisions else Storage(precision, None)
    if t.stored.qparams is None or not storage.dtype.is_integer or storage.scheme is None:
        return replace(t, stored=Stored(storage.dtype))
    found = same(t.stored.qparams, storage)
    if found is None:
        found = qparams_of_ranges(t.range.min, t.range.max, storage.dtype, storage.scheme)
        problems.extend(step_loss(t, found, f"{target.name} stores it {_words(storage)}"))
    return replace(t, stored=Stored(storage.dtype, found))


def same(p: QParams, storage: Storage) -> QParams | None:
    """The parameters that say the same in ``storage``; None where it cannot say so."""
    if storage.dtype.bits != p.precision.bits or storage.scheme is None:
        return None
    zero_point = p.zero_point + (storage.dtype.qmin - p.precision.qmin)
    middle = (storage.dtype.qmin + storage.dtype.qmax + 1) // 2
    if storage.scheme.is_symmetric and not (zero_point == middle).all():
        return None
    if storage.scheme is Scheme.DYNAMIC_FIXED_POINT and not (np.frexp(p.scale)[0] == 0.5).all():
        return None
    return QParams(storage.dtype, storage.scheme, p.scale, zero_point, p.axis)


def _weight(
    w: WeightView, view: View, target: Target, becomes: Mapping[Precision, Precision], problems: list[Problem]
) -> WeightView:
    precision = becomes.get(w.precision, w.precision)
    support = target.precisions.get(precision)
    storage = (support.weight if w.axis is not None else support.activation) if support else Storage(precision, None)
    if w.qparams is None or not storage.dtype.is_integer or storage.scheme is None:
        return replace(w, precision=storage.dtype, qparams=None, together=False)
    channels = storage.per_channel or w.qparams.axis is None
    found = same(w.qparams, storage) if channels else None
    if found is None:
        axis = w.axis if storage.per_channel and len(w.shape) > 1 else None
        low, high = weight_range(view.values(w), axis, storage.dtype, storage.scheme)
        found = qparams_of_ranges(low, high, storage.dtype, storage.scheme, axis)
        if not _alike(w.qparams, found):
            problems.append(range_change(w, view, found, f"{target.name} stores its weights {_words(storage)}"))
    return replace(w, precision=storage.dtype, qparams=found)


def _alike(a: QParams, b: QParams) -> bool:
    return a.scale.shape == b.scale.shape and abs(coarser(a, b)) < 1e-6 and bool((a.zero_point == b.zero_point).all())


def _words(storage: Storage) -> str:
    channel = " per channel" if storage.per_channel else ""
    return f"in {storage.dtype}, {storage.scheme}{channel}"
