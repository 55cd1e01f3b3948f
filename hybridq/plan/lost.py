"""Tensors of which 8 bits would leave next to nothing, told by their histograms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.ranges import BY_READERS
from hybridq.calibration.readers import Response
from hybridq.calibration.statistics import Histogram, TensorStatistics
from hybridq.graph import operators
from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.operators import Kind
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import qparams_of_ranges
from hybridq.quant.records import Measured
from hybridq.targets import Target

LEAST = 0.5  # steps
DROWNED = 30.0  # dB behind a logarithm or the like; a tensor in 8 bits has some 40


def lost(
    model: Model,
    stats: Mapping[str, TensorStatistics],
    measured: Mapping[str, Measured],
    readers: Mapping[str, Response],
    algorithm: str,
    target: Target,
) -> list[str]:
    """Groups that 8 bits make zeros of, or whose error is all that a logarithm, root or reciprocal shows."""
    ratios = needing_ratios(model)
    return [
        g.name
        for g in model.groups
        if (g.name in ratios and _is_lost(g, stats, measured[g.name], algorithm, target))
        or _is_drowned(g, stats, measured[g.name], algorithm, target, readers.get(g.name))
    ]


def needing_ratios(model: Model) -> set[str]:
    """Groups of which small values count as much as large ones.

    A logarithm or root reads them, behind one layer with weights at most. Elsewhere what rounds to zero is small beside
    the rest, and networks live with it.
    """
    without = _reaching(model, {n for n in model.group if any(map(_is_steep, model.readers.get(n, ())))})
    one = {n for n in model.group if any(x.group in without for x in model.readers.get(n, ()))}
    return _reaching(model, without | one)


def _reaching(model: Model, found: set[str]) -> set[str]:
    """Groups, and those from which one of them is reached through layers without weights."""
    makers: dict[str, list[str]] = {}
    for name in model.group:
        for reader in model.readers.get(name, ()):
            if not (operators.lookup(reader.op).kind is Kind.COMPUTE and reader.weights):
                makers.setdefault(reader.group, []).append(name)
    reached, waiting = set(found), list(found)
    while waiting:
        new = [n for n in makers.get(waiting.pop(), ()) if n not in reached]
        reached.update(new)
        waiting += new
    return reached


def _is_steep(layer: Layer) -> bool:
    return operators.lookup(layer.op).steep


def _is_lost(
    group: Group, stats: Mapping[str, TensorStatistics], measured: Measured, algorithm: str, target: Target
) -> bool:
    """Whether 8 bits make zeros of half of a tensor's values: they are less than ``LEAST`` steps."""
    typical = typical_value(group, stats)
    if typical == 0.0 or measured.fixed:
        return False
    precision, scheme = form(target, target.default, 8)
    chosen = measured.chosen(algorithm, precision)
    return typical < LEAST * float(qparams_of_ranges(chosen.min, chosen.max, precision, scheme).scale)


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
    precision, scheme = form(target, target.default, 8)
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


def form(target: Target, default: Precision, bits: int) -> tuple[Precision, Scheme]:
    """The precision and scheme for which an algorithm searches a range of so many bits."""
    fitting = [p for p in target.precisions if p.is_integer and p.bits == bits]
    precision = default if default.bits == bits and default in fitting else fitting[0] if fitting else Precision.INT16
    support = target.precisions.get(precision)
    scheme = support.activation.scheme if support else None
    return precision, scheme or Scheme.SYMMETRIC
