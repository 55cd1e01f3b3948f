"""What step1 writes down: statistics to the ranges and parameters of every tensor and weight."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybridq.calibration.calibrate import PAIRS_ONLY
from hybridq.calibration.ranges import BY_READERS, USUAL, RangeOptions, choose
from hybridq.calibration.readers import Response, response
from hybridq.calibration.statistics import TensorStatistics, pool
from hybridq.errors import ModelError
from hybridq.graph.model import Group, Layer, Model, Weight
from hybridq.graph.separated import separable, separated, told
from hybridq.plan.defaults import LoopDefaults, default_precisions
from hybridq.plan.layer_weights import entry_key, storage_of, weight_axis
from hybridq.plan.limits import completed, inherited, joined, limit, within
from hybridq.plan.lost import form, lost
from hybridq.quant import entry_params
from hybridq.quant.dtypes import Precision, widest
from hybridq.quant.qparams import Range
from hybridq.quant.records import UNBOUNDED, Calibrated, Entry, LayerDefault, Measured
from hybridq.quant.weight_ranges import WeightAlgorithm
from hybridq.storage.weights import Tensors
from hybridq.targets import Target

BITS = (8, 16)
UNEDITED: frozenset[str] = frozenset()
NEAR = 4.0  # times a measured range: a known range that reaches no further is taken whole
ROOM = 2.0  # times the measured range, where the known one is too wide


@dataclass(frozen=True, slots=True)
class Request:
    """What step1 is asked for.

    ``default`` is the precision of every layer that can have it, ``algorithm`` the one by which ranges are chosen,
    ``weights_per`` says what of weights has a scale (``"layer"``, ``"channel"``). ``literal``: the precision was asked
    for, so that no layer is left in float32 because it is faster so. ``loop``: what is different in a recurrent model.
    """

    target: Target
    default: Precision
    algorithm: str
    weights_per: str = "channel"
    weights_algorithm: WeightAlgorithm = WeightAlgorithm.NORMAL
    literal: bool = False
    loop: LoopDefaults | None = None


def decide(
    model: Model,
    weights: Tensors,
    stats: Mapping[str, TensorStatistics],
    request: Request,
    algorithms: Sequence[str],
    options: RangeOptions = USUAL,
) -> Calibrated:
    """Ranges by every algorithm of ``algorithms``, and the entries that the cfg shows.

    ``stats`` has the statistics of each group's sources that were measured, by tensor.
    """
    asked = _Asked(weights, stats, request, algorithms, options)
    target, readers = request.target, asked.readers(model, model.groups)
    measured = inherited(asked.measured(model, model.groups, readers), model, target)
    measured = measured if target.inputs_share else joined(measured, model)
    made = record(model, weights, measured, request, lost(model, stats, measured, readers, request.algorithm, target))
    return replace(made, apart=_apart(model, measured, asked)) if target.concats_separate else made


@dataclass(frozen=True)
class _Asked:
    """What ranges are chosen from, and how."""

    weights: Tensors
    stats: Mapping[str, TensorStatistics]
    request: Request
    algorithms: Sequence[str]
    options: RangeOptions

    def measured(self, model: Model, groups: Iterable[Group], readers: Mapping[str, Response]) -> dict[str, Measured]:
        """The ranges of some groups of a model, as far as the target takes them."""
        target = self.request.target
        options = replace(self.options, minimum_range=max(self.options.minimum_range, target.minimum_range))
        found = {}
        for g in groups:
            m = measure(g, self.stats, self.request, self.algorithms, options, readers.get(g.name))
            found[g.name] = within(completed(m, model, g, target), limit(model, g, target))
        return found

    def readers(self, model: Model, groups: Iterable[Group]) -> dict[str, Response]:
        """What becomes of the values of each measured group, where every number makes a number."""
        found = {}
        for group in groups if BY_READERS.intersection(self.algorithms) else ():
            parts = [self.stats[s] for s in group.sources if s in self.stats]
            if group.fixed is None and parts:
                whole = Range(min(p.min for p in parts), max(p.max for p in parts)).with_zero()
                found[group.name] = response(model, self.weights, group, whole)
        return {n: r for n, r in found.items() if r is not None}


def _apart(model: Model, measured: Mapping[str, Measured], asked: _Asked) -> dict[str, Measured]:
    """The ranges of the parts into which groups fall where all Concats are separate."""
    target, asked = asked.request.target, replace(asked, stats=with_results(model, asked.stats))
    parts = separated(model, separable(model), outputs_share=target.outputs_share, fixed_ranges=target.fixed_ranges)
    new = [g for g in parts.groups if g is not model.group.get(g.name)]
    own = asked.measured(parts, new, asked.readers(parts, new))
    return {n: m for n, m in joined({**measured, **own}, parts).items() if n in own}


def with_results(model: Model, stats: Mapping[str, TensorStatistics]) -> dict[str, TensorStatistics]:
    """The statistics and, of Concats that calibration did not measure, the ends that the joined tensors' tell."""
    found = dict(stats)
    for result, inputs in told(model).items():
        if result not in found and found.keys() >= set(inputs):
            found[result] = replace(pool(found[i] for i in inputs), histogram=None)
    return found


def record(
    model: Model, weights: Tensors, measured: Mapping[str, Measured], request: Request, lost: Collection[str] = ()
) -> Calibrated:
    """The entries for ranges that are known. ``lost``: groups of which 8 bits would leave next to nothing."""
    target, default = request.target, request.default
    usual = default_precisions(model, target, default, literal=request.literal, lost=lost, loop=request.loop)
    layers = usual | _unbounded(model, measured, target)
    chosen = {n: d.precision for n, d in layers.items()}
    entries = {}
    for group in model.groups:
        precision = widest([chosen[n] for n in group.layers]) if group.layers else default
        precision = target.float_precision if measured[group.name].unbounded else precision
        precision = Precision.FLOAT32 if group.float_only else precision
        entries[group.name] = activation_entry(measured[group.name], precision, request.algorithm, target)
    entries |= _weight_entries(model, weights, layers, request)
    return Calibrated(target.name, default, request.algorithm, request.weights_per, entries, measured, layers)


def with_weights(model: Model, calibrated: Calibrated, weights: Tensors, request: Request) -> Calibrated:
    """The record of a model with other weights that computes the same, within the same ranges."""
    entries = {**calibrated.entries, **_weight_entries(model, weights, calibrated.layers, request)}
    return replace(calibrated, entries=entries)


def _weight_entries(
    model: Model, weights: Tensors, layers: Mapping[str, LayerDefault], request: Request
) -> dict[str, Entry]:
    how = weights, request.weights_per, request.weights_algorithm, request.target
    entries: dict[str, Entry] = {}
    for layer in model.layers:
        for weight in layer.weights:
            stored = layers[layer.name].weight_only or layers[layer.name].precision
            made = weight_entry(layer, weight, stored, *how)
            entries[entry_key(layer)] = made if len(layer.weights) == 1 else _of_several(made)
    return entries


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
    request: Request,
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
    forms = {bits: form(request.target, request.default, bits) for bits in BITS}
    counted = [
        a for a in algorithms if (whole.histogram and whole.histogram.count) or a in PAIRS_ONLY
    ]  # else the ends alone are known
    ranges = {a: dict.fromkeys(BITS, full) for a in algorithms}
    ranges |= {a: {bits: choose(a, whole, *forms[bits], options, readers) for bits in BITS} for a in counted}
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


def activation_entry(m: Measured, precision: Precision, algorithm: str, target: Target) -> Entry:
    """What the cfg shows of a tensor. A range that is known without measuring has no algorithm."""
    plain = Entry(precision, algorithm=None if m.fixed else algorithm)
    return entry_params.activation_entry(plain, UNEDITED, target.activation(precision), m)


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
    found = entry_params.weight_params(plain, UNEDITED, storage, axis, values)
    if axis is not None:
        return replace(entry_params.weight_entry(plain, UNEDITED, storage, found), qmethod="channel")
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    return replace(entry_params.weight_entry(plain, UNEDITED, storage, found), min=low, max=high)
