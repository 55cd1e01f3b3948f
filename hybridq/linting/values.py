"""What the measured values alone tell: squashed far ends, zeros, outliers, ranges that did not settle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import SupportsFloat

import numpy as np

from hybridq.calibration.convergence import convergence
from hybridq.calibration.statistics import CalibrationStats, Histogram
from hybridq.graph.edit import attribute
from hybridq.graph.model import Layer
from hybridq.graph.operators import Interval, lookup, row_of
from hybridq.linting.facts import Facts, Finding, names, number, setting, span
from hybridq.linting.spread import tail_nodes
from hybridq.plan.lost import needing_ratios
from hybridq.quant.qparams import Range

SCORE_STEP = 0.05  # a result that moves so much by one step of its input
NOTED, WARNED = 3.0, 1.5  # steps that a typical value has at most
ZERO = 0.5  # of a step: what is smaller becomes zero
FEW = 0.05  # of the values
OUTLIER = 100.0  # the largest magnitude over the one that OUTLIER_SHARE of the values keep within
OUTLIER_SHARE = 0.999
MOVED = 0.10  # of a range, in the last quarter of the samples


def squashed(facts: Facts) -> Iterator[Finding]:
    """Sigmoid, HardSigmoid and Softmax that read a range far beyond where they change anything."""
    tail = tail_nodes(facts)
    for layer in facts.model.layers:
        node = facts.model.nodes[layer.node]
        slope = _slope(layer, facts)
        params, r = facts.qparams(node.input[0]), facts.ranges.get(node.input[0])
        if slope is None or params is None or r is None or _is_gate_of_itself(layer, facts):
            continue
        step = float(params.scale)
        if slope * step <= SCORE_STEP or _is_deaf(facts, node.input[0], 1 / slope):
            continue
        message = (
            f"{facts.called(node.input[0])} spans {span(r)} in steps of {number(step)}, of which {layer.op} uses "
            f"but the middle: near 0.5 '{layer.name}' moves by {number(slope * step)} a step"
        )
        group = facts.model.group_of[node.input[0]]
        high = facts.high(r, SCORE_STEP / slope / 10)
        layers = (*group.layers, *((layer.name,) if facts.plan.layers[layer.name].done.bits == 8 else ()))
        severity = "warning" if layer.node in tail else "note"
        named = (*group.layers, layer.name)
        yield Finding(layer.name, "squashed", message, setting(layers, high), severity, named, high)


def _slope(layer: Layer, facts: Facts) -> float | None:
    slope = lookup(layer.op).slope
    alpha = attribute(facts.model.nodes[layer.node], "alpha", slope)
    return float(alpha) if slope is not None and isinstance(alpha, SupportsFloat) else None


def _is_gate_of_itself(layer: Layer, facts: Facts) -> bool:
    """Whether it is part of SiLU, ``x * Sigmoid(x)``: ``coarse`` tells where small ``x`` are lost there."""
    readers = facts.model.consumers.get(layer.name, ())
    return any(row_of(n).interval is Interval.PRODUCT and layer.inputs and layer.inputs[0] in n.input for n in readers)


def _is_deaf(facts: Facts, tensor: str, middle: float) -> bool:
    """Whether hardly a value lies where the operator changes anything, ``middle`` to either side of zero."""
    histogram = facts.histogram(facts.model.group_of[tensor])
    if histogram is None or not histogram.count:
        return False
    inside = (np.abs(histogram.edges[:-1]) <= middle) & (np.abs(histogram.edges[1:]) <= middle)
    return bool(histogram.counts[inside].sum() < FEW * histogram.count)


def zeros(facts: Facts) -> Iterator[Finding]:
    """Tensors that were zero in every sample: nothing is known of their range."""
    dead = [
        g.name
        for g in facts.model.groups
        if facts.qparams(g.name) is not None and not facts.calibrated.measured[g.name].fixed
        if g.name in facts.model.inputs or any(not facts.model.layer[n].float_only for n in g.layers)
        if facts.calibrated.measured[g.name].range.amax == 0.0
    ]
    if dead:
        message = f"{names(dead)} held nothing but 0 in the calibration set: other values will be rounded to integers"
        yield Finding(
            dead[0], "zero", message, "samples in which it is used, or min and max by hand", "note", tuple(dead)
        )


def coarse(facts: Facts) -> Iterator[Finding]:
    """Tensors most of whose values are hardly told apart from zero: a few steps at most.

    A warning where a logarithm or root reads them, and of an input half of which becomes zero: columns of unlike units.
    Elsewhere what is small beside the rest often counts as little.
    """
    ratios = needing_ratios(facts.model)
    for group in facts.model.groups:
        params, histogram = facts.qparams(group.name), facts.histogram(group)
        if params is None or histogram is None or facts.calibrated.measured[group.name].fixed:
            continue
        typical, step = histogram.typical, float(params.scale)
        if not 0 < typical < NOTED * step or all(map(facts.is_score, group.sources)):
            continue
        if params.range.amax >= OUTLIER * magnitude_of(histogram, OUTLIER_SHARE):
            continue  # ``outliers`` says more
        message = (
            f"{facts.called(group.name)} spans {span(params.range)} in steps of {number(step)}, and half of its values "
            f"other than 0 are smaller than {number(typical)}: {typical / step:.1f} steps"
        )
        high = facts.high(params.range, typical / 10)
        layers = (*group.layers, *facts.keeping(group))
        lost = typical < WARNED * step and group.name in ratios
        lost |= typical < ZERO * step and not group.layers
        severity = "warning" if lost else "note"
        yield Finding(group.name, "coarse", message, setting(layers, high), severity, layers, high)


def outliers(facts: Facts) -> Iterator[Finding]:
    """Ranges that a few values stretch, where a histogram tells."""
    for group in facts.model.groups:
        params, histogram = facts.qparams(group.name), facts.histogram(group)
        if params is None or histogram is None:
            continue
        common = magnitude_of(histogram, OUTLIER_SHARE)
        reach = params.range.amax
        if common <= 0 or reach < OUTLIER * common:
            continue
        message = (
            f"{facts.called(group.name)} reaches {number(reach)} but {OUTLIER_SHARE:.1%} of its values stay "
            f"within {number(common)}: these share {2 * common / float(params.scale):.1f} steps"
        )
        high = facts.high(Range(-reach, reach), common / 10)
        layers = (*group.layers, *facts.keeping(group))
        remedy = " or ".join(["algorithm: mmse or percentile", *([setting(layers, high)] if layers else [])])
        yield Finding(group.name, "outlier", message, remedy, "warning", layers, high)


def magnitude_of(histogram: Histogram, share: float) -> float:
    """The magnitude that ``share`` of the counted values do not exceed."""
    edges, counts = histogram.edges, histogram.counts
    ends = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    ends[len(ends) // 2] = 0.0  # the bin of zero
    order = np.argsort(ends, kind="stable")
    reached = np.cumsum(counts[order]) >= share * counts.sum()
    return float(ends[order][int(np.argmax(reached))])


def unsettled(facts: Facts) -> Iterator[Finding]:
    """Ranges that still grew in the last quarter of the samples."""
    samples = max((s.samples for s in facts.stats.values()), default=0)
    moved = convergence(CalibrationStats(samples, facts.stats)).moved
    late = sorted((t for t, m in moved.items() if m > MOVED and facts.qparams(t)), key=lambda t: -moved[t])
    if late:
        message = (
            f"the last quarter of the samples widened {names(late)} by up to {moved[late[0]]:.0%}: "
            "new data will leave these ranges and be cut off"
        )
        remedy = "more samples, or min and max by hand"
        layers = tuple(dict.fromkeys(n for t in late for n in facts.model.group_of[t].layers))
        yield Finding(late[0], "unsettled", message, remedy, "note", layers)
