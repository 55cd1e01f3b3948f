"""What step1 writes down: statistics to the ranges and parameters of every tensor and weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.ranges import BY_READERS, USUAL, RangeOptions, choose
from hybridq.calibration.readers import Response, response
from hybridq.calibration.statistics import Histogram, TensorStatistics, pool
from hybridq.errors import ModelError
from hybridq.graph.model import Group, Layer, Model, Weight
from hybridq.plan.defaults import LoopDefaults, default_precisions, needs_ratios
from hybridq.plan.layer_weights import entry_key, storage_of, weight_axis
from hybridq.plan.limits import completed, inherited, joined, limit, within
from hybridq.quant import params
from hybridq.quant.dtypes import Precision, Scheme, widest
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import Range, qparams_of_ranges
from hybridq.quant.records import UNBOUNDED, Calibrated, Entry, LayerDefault, Measured
from hybridq.quant.weight_ranges import WeightAlgorithm
from hybridq.storage.weights import Tensors
from hybridq.targets import Target

BITS = (8, 16)
LOST = 0.5  # steps
DROWNED = 30.0  # dB behind a logarithm or the like; a tensor in 8 bits has some 40
UNEDITED: frozenset[str] = frozenset()
NEAR = 4.0  # times a measured range: a known range that reaches no further is taken whole
ROOM = 2.0  # times the measured range, where the known one is too wide


def decide(
    model: Model,
    weights: Tensors,
    stats: Mapping[str, TensorStatistics],
    target: Target,
    *,
    default: Precision,
    algorithm: str,
    algorithms: Sequence[str],
    weights_per: str = "channel",
    weights_algorithm: WeightAlgorithm = WeightAlgorithm.NORMAL,
    options: RangeOptions = USUAL,
    literal: bool = False,
    loop: LoopDefaults | None = None,
) -> Calibrated:
    """Ranges by every algorithm of ``algorithms``, and the entries that the cfg shows.

    ``stats`` has the statistics of each group's sources that were measured, by tensor. ``literal``: the precision was
    asked for, so that no layer is left in float32 because it is faster so. ``loop``: what is different in a
    recurrent model.
    """
    readers = _readers(model, weights, stats, algorithms)
    options = replace(options, minimum_range=max(options.minimum_range, target.minimum_range))
    measured = {}
    for g in model.groups:
        found = measure(g, stats, target, default, algorithms, options, readers.get(g.name))
        measured[g.name] = within(completed(found, model, g, target), limit(model, g, target))
    measured = joined(inherited(measured, model, target), model, target)
    lost = [
        g.name
        for g in model.groups
        if (_is_lost(g, stats, measured[g.name], algorithm, target) and needs_ratios(model, g))
        or _is_drowned(g, stats, measured[g.name], algorithm, target, readers.get(g.name))
    ]
    words = (default, algorithm, weights_per, weights_algorithm, literal, lost, loop)
    return record(model, weights, measured, target, *words)


def _is_lost(
    group: Group, stats: Mapping[str, TensorStatistics], measured: Measured, algorithm: str, target: Target
) -> bool:
    """Whether 8 bits make zeros of half of a tensor's values: they are less than ``LOST`` steps."""
    typical = typical_value(group, stats)
    if typical == 0.0 or measured.fixed:
        return False
    precision, scheme = _form(target, target.default, 8)
    chosen = measured.chosen(algorithm, precision)
    return typical < LOST * float(qparams_of_ranges(chosen.min, chosen.max, precision, scheme).scale)


def _is_drowned(
    group: Group,
    stats: Mapping[str, TensorStatistics],
    measured: Measured,
    algorithm: str,
    target: Target,
    readers: Response | None,
) -> bool:
    """Whether little is left of what a logarithm, root or reciprocal makes of a tensor once that has 8 bits.

    Small values keep few steps and decide most behind such readers: that is told by the error *after* them, from the
    tensor's histogram. Asked where ranges look at their readers, too.
    """
    held = counted(group, stats)
    if readers is None or not readers.steep or held is None or measured.fixed or algorithm not in BY_READERS:
        return False
    precision, scheme = _form(target, target.default, 8)
    chosen = measured.chosen(algorithm, precision)
    params_of_all = qparams_of_ranges(chosen.min, chosen.max, precision, scheme)
    middles = (held.edges[:-1] + held.edges[1:]) / 2
    seen, weights = middles[held.counts > 0], held.counts[held.counts > 0]
    left = fake_quantize(seen, params_of_all).astype(np.float64)
    wanted, found = readers.of(seen), readers.of(left)
    noise = np.average((found - wanted) ** 2, axis=1, weights=weights)
    signal = np.average((wanted - np.average(wanted, axis=1, weights=weights)[:, None]) ** 2, axis=1, weights=weights)
    return bool((_decibels(signal, noise) < DROWNED).any())


def _decibels(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each in dB; what does not vary has no noise that counts."""
    return 10 * np.log10(np.maximum(signal, 1e-30) / np.where(signal > 0, np.maximum(noise, 1e-30), 1e-30))


def counted(group: Group, stats: Mapping[str, TensorStatistics]) -> Histogram | None:
    """The histogram of a group's values; None where there is none."""
    held = [h for s in group.sources if s in stats and (h := stats[s].histogram) is not None]
    return sum(held[1:], held[0]) if held else None


def typical_value(group: Group, stats: Mapping[str, TensorStatistics]) -> float:
    """The magnitude that half of a group's values other than zero do not exceed; 0 where no histogram tells."""
    held = counted(group, stats)
    return held.typical if held is not None else 0.0


def record(
    model: Model,
    weights: Tensors,
    measured: Mapping[str, Measured],
    target: Target,
    default: Precision,
    algorithm: str,
    weights_per: str = "channel",
    weights_algorithm: WeightAlgorithm = WeightAlgorithm.NORMAL,
    literal: bool = False,
    lost: Collection[str] = (),
    loop: LoopDefaults | None = None,
) -> Calibrated:
    """The entries for ranges that are known. ``lost``: groups of which 8 bits would leave next to nothing.

    ``loop``: what is different in a recurrent model.
    """
    usual = default_precisions(model, target, default, literal=literal, lost=lost, loop=loop)
    layers = usual | _unbounded(model, measured, target)
    chosen = {n: d.precision for n, d in layers.items()}
    entries = {}
    for group in model.groups:
        precision = widest([chosen[n] for n in group.layers]) if group.layers else default
        precision = target.float_precision if measured[group.name].unbounded else precision
        precision = Precision.FLOAT32 if group.float_only else precision
        entries[group.name] = activation_entry(measured[group.name], precision, algorithm, target)
    for layer in model.layers:
        for weight in layer.weights:
            key = entry_key(layer)
            stored = layers[layer.name].weight_only or chosen[layer.name]
            made = weight_entry(layer, weight, stored, weights, weights_per, weights_algorithm, target)
            entries[key] = made if len(layer.weights) == 1 else _of_several(made)
    return Calibrated(target.name, default, algorithm, weights_per, entries, measured, layers)


def _of_several(entry: Entry) -> Entry:
    """What the weights of a layer that has several share: each has parameters of its own (LSTM, GRU, RNN)."""
    return replace(entry, min=None, max=None, scale=None, zero_point=None, fl=None)


def _unbounded(model: Model, measured: Mapping[str, Measured], target: Target) -> dict[str, LayerDefault]:
    """Layers whose results hold infinities that are meant: they stay float."""
    groups = [g for g in model.groups if measured[g.name].unbounded]
    layers = [model.layer[n] for g in groups for n in g.layers]
    return {x.name: LayerDefault(target.float_precision, x.float_only or UNBOUNDED) for x in layers}


def measure(
    group: Group,
    stats: Mapping[str, TensorStatistics],
    target: Target,
    default: Precision,
    algorithms: Sequence[str],
    options: RangeOptions,
    readers: Response | None = None,
) -> Measured:
    """The range of a group by each algorithm, for 8 and for 16 bits."""
    parts = [stats[s] for s in group.sources if s in stats]
    if group.fixed is not None or not parts:
        known = Range(0.0, 0.0)
        if group.fixed is not None:
            known = known_range(Range(*group.fixed), [Range(p.min, p.max) for p in parts])
        unbounded = any(p.unbounded for p in parts)
        return Measured(known, {a: dict.fromkeys(BITS, known) for a in algorithms}, fixed=True, unbounded=unbounded)
    whole = pool(parts)
    full = Range(whole.min, whole.max).with_zero()
    forms = {bits: _form(target, default, bits) for bits in BITS}
    ranges = {a: {bits: choose(a, whole, *forms[bits], options, readers) for bits in BITS} for a in algorithms}
    return Measured(full, ranges, unbounded=whole.unbounded)


def known_range(fixed: Range, measured: Sequence[Range]) -> Range:
    """The range of a group whose operators' results cannot leave ``fixed``.

    That range itself where what was measured comes near its ends: other data may come nearer. Where it stays far below,
    as the probabilities of a thousand classes do, the measured range and as much again.
    """
    reach = Range(min([0.0, *(r.min for r in measured)]), max([0.0, *(r.max for r in measured)]))
    if reach.amax == 0.0 or reach.amax * NEAR >= fixed.amax:
        return fixed
    return Range(max(fixed.min, ROOM * reach.min), min(fixed.max, ROOM * reach.max))


def _readers(
    model: Model, weights: Tensors, stats: Mapping[str, TensorStatistics], algorithms: Sequence[str]
) -> dict[str, Response]:
    """What becomes of the values of each measured group, where every number makes a number."""
    found = {}
    for group in model.groups if BY_READERS.intersection(algorithms) else ():
        parts = [stats[s] for s in group.sources if s in stats]
        if group.fixed is None and parts:
            whole = Range(min(p.min for p in parts), max(p.max for p in parts)).with_zero()
            found[group.name] = response(model, weights, group, whole)
    return {n: r for n, r in found.items() if r is not None}


def _form(target: Target, default: Precision, bits: int) -> tuple[Precision, Scheme]:
    """The precision and scheme for which an algorithm searches a range of so many bits."""
    fitting = [p for p in target.precisions if p.is_integer and p.bits == bits]
    precision = default if default.bits == bits and default in fitting else fitting[0] if fitting else Precision.INT16
    support = target.precisions.get(precision)
    scheme = support.activation.scheme if support else None
    return precision, scheme or Scheme.SYMMETRIC


def activation_entry(m: Measured, precision: Precision, algorithm: str, target: Target) -> Entry:
    """What the cfg shows of a tensor. A range that is known without measuring has no algorithm."""
    plain = Entry(precision, algorithm=None if m.fixed else algorithm)
    return params.activation_entry(plain, UNEDITED, target.activation(precision), m)


def weight_entry(
    layer: Layer,
    weight: Weight,
    precision: Precision,
    weights: Tensors,
    weights_per: str,
    algorithm: WeightAlgorithm,
    target: Target,
) -> Entry:
    """What the cfg shows of a layer's weights; per-channel numbers are recorded, not shown."""
    storage = storage_of(layer, precision, target)
    plain = Entry(storage.dtype, algorithm=algorithm)
    if not storage.dtype.is_integer:
        return plain
    values = weights[weight.tensor]
    if not np.isfinite(values).all():
        raise ModelError(f"the weights '{weight.tensor}' of layer '{layer.name}' hold NaN or infinity")
    axis = weight_axis(weight, plain, UNEDITED, storage, weights_per)
    found = params.weight_params(plain, UNEDITED, storage, axis, values)
    if axis is not None:
        return replace(params.weight_entry(plain, UNEDITED, storage, found), qmethod="channel")
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    return replace(params.weight_entry(plain, UNEDITED, storage, found), min=low, max=high)
