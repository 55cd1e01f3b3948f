"""What costs no bits: ranges by another algorithm, weights rounded otherwise, corrected biases.

Each is measured alone first, where the quantizer it changes does damage at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hybridq.execution.progress import Progress, no_progress
from hybridq.plan.limits import joins
from hybridq.quant.entry_params import TOGETHER
from hybridq.quant.qparams import QParams, Range
from hybridq.quant.records import WEIGHT_SUFFIX
from hybridq.repair.bias_correction import corrected_biases
from hybridq.repair.gptq import compensated_weights
from hybridq.search.choice import Choice, Tuning, rounding
from hybridq.search.measuring.growing import Forms
from hybridq.search.measuring.joint import Bench
from hybridq.search.measuring.quantizers import NoiseSource, weight_forms

CORRECTED = "corrected"  # the one other form of a bias
CLEAR = 0.95  # a repair of one layer that alone does less than this share of the damage helps
MATTERS = 0.99  # of the damage: quantizers that do the rest have no alternative worth a measurement

Shares = Mapping[str, Mapping[str, float]]  # by group or layer, by algorithm: share of the damage there is now


@dataclass(frozen=True)
class Alternatives:
    """What other forms of a quantizer do alone: groups' ranges, layers' weights, layers' biases ("corrected")."""

    ranges: Shares = field(default_factory=dict)
    weights: Shares = field(default_factory=dict)
    biases: Shares = field(default_factory=dict)

    def clear(self, held: Shares, below: float = CLEAR) -> dict[str, str]:
        """The best form of each that has one which alone does less than a share of the damage there is."""
        best = {name: min(forms, key=lambda how: (forms[how], how)) for name, forms in held.items()}
        return {name: how for name, how in best.items() if held[name][how] < below}

    def share(self, source: NoiseSource, tuning: Tuning) -> float:
        """What a tuning leaves of a source's damage, as far as it was measured."""
        if not source.unit:
            how = tuning.ranges.get(source.group, "")
            return self.ranges.get(source.group, {}).get(how, 1.0)
        found = [self.of_layer(key[1], tuning) for key in source.forms]
        return sum(found) / len(found)

    def of_layer(self, layer: str, tuning: Tuning) -> float:
        """What a tuning leaves of the damage that a layer's weights do."""
        if layer in tuning.weights:
            return self.weights.get(layer, {}).get(tuning.weights[layer], 1.0)
        return self.biases.get(layer, {}).get(CORRECTED, 1.0) if layer in tuning.biases else 1.0


@dataclass(frozen=True)
class Variant:
    """One quantizer in one form: ``kind`` is a field of ``Alternatives``, ``how`` "" for what is there now."""

    kind: str
    name: str
    how: str
    forms: Forms


def prepare(bench: Bench, given: Tuning, progress: Progress = no_progress) -> None:
    """Make the repairs that a tuning may use; those that step1 made already are taken as they are.

    Where ``progress`` raises, those made until then may be used.
    """
    feeds, words = bench.reference.feeds, dict[str, Any](threads=bench.threads, progress=progress, kept=bench.kept)
    plan, weights = bench.plan(Choice())
    biases = corrected_biases(bench.model, plan, weights, feeds, **words)
    bench.corrections = {**biases, **bench.corrections}
    if not given.together:
        bench.rounded = compensated_weights(bench.model, plan, weights, feeds, **words)
    if bench.rounded:
        plan, weights = bench.plan(Choice({}, Tuning(weights=dict.fromkeys(bench.rounded, "gptq"))))
        biases = corrected_biases(bench.model, plan, weights, feeds, **words)
        bench.behind = {**{n: b for n, b in biases.items() if n in bench.rounded}, **bench.behind}


def repairs(bench: Bench, found: Alternatives) -> Iterator[Tuning]:
    """Ways to treat the weights and biases of the whole model."""
    weights = {n: rounding(how) for n, how in found.clear(found.weights).items()}
    yield Tuning()
    yield Tuning(weights=dict.fromkeys(bench.rounded, "gptq"))
    yield Tuning(weights=dict.fromkeys(bench.rounded, "gptq"), biases=frozenset({*bench.behind, *bench.corrections}))
    yield Tuning(biases=frozenset(bench.corrections))
    yield Tuning(weights=weights)
    of_bias = frozenset(n for n in found.clear(found.biases) if _rather_bias(found, n))
    yield Tuning(weights={n: how for n, how in weights.items() if n not in of_bias}, biases=of_bias)
    yield Tuning(biases=frozenset(found.clear(found.biases)))


def _rather_bias(found: Alternatives, layer: str) -> bool:
    """Whether a corrected bias helps a layer more than other weights do: both take back the same error."""
    return found.biases[layer][CORRECTED] <= min(found.weights.get(layer, {}).values(), default=math.inf)


def alternatives(bench: Bench, alone: Mapping[str, float], samples: Sequence[int]) -> Alternatives:
    """What every other form of the quantizers that matter does alone."""
    matters = _mattering(alone)
    variants = [v for v in (*_ranges(bench, matters), *_weights(bench, matters), *_biases(bench, matters)) if v.forms]
    found = bench.damages([v.forms for v in variants], samples, "other ranges and roundings, each alone")
    now = {(v.kind, v.name): d for v, d in zip(variants, found.tolist(), strict=True) if not v.how}
    shares: dict[str, dict[str, dict[str, float]]] = {"ranges": {}, "weights": {}, "biases": {}}
    for v, damage in zip(variants, found.tolist(), strict=True):
        there = now[v.kind, v.name]
        if v.how:
            shares[v.kind].setdefault(v.name, {})[v.how] = damage / there if there > 0 else 1.0
    return Alternatives(**shares)


def _mattering(alone: Mapping[str, float]) -> set[str]:
    """The fewest quantizers that do nearly all of the damage."""
    ranked = sorted(alone, key=lambda k: (-alone[k], k))
    total = np.cumsum([alone[k] for k in ranked])
    enough = int(np.searchsorted(total, MATTERS * total[-1])) + 1 if ranked else 0
    return set(ranked[:enough])


def _ranges(bench: Bench, matters: set[str]) -> list[Variant]:
    """Every group's tensor with the range of each algorithm that gives another one than now."""
    plan, _ = bench.plan(Choice())
    now = {g: p.stored.qparams for g, p in plan.groups.items() if p.stored.qparams is not None and g in matters}
    names = sorted({a for m in bench.calibrated.measured.values() for a in m.ranges})
    found: list[Variant] = []
    for name in names:
        other, _ = bench.plan(Choice({}, Tuning(dict.fromkeys(now, name))))
        for group, params in now.items():
            changed = other.groups[group].stored.qparams
            if changed is None or params is None or changed.same_as(params):
                continue
            if not _is_joined_otherwise(bench, group, changed.range, now):
                found.append(Variant("ranges", group, name, {("tensor", group): changed}))
    usual = [Variant("ranges", g, "", {("tensor", g): now[g]}) for g in dict.fromkeys(v.name for v in found)]
    return usual + found


def _is_joined_otherwise(bench: Bench, group: str, r: Range, now: Mapping[str, QParams]) -> bool:
    """Whether a Concat with a range of its own writes the group, or reads it and would clip it to that range."""
    model = bench.model
    if any(joins(model, model.layer[n]) for n in model.group[group].layers):
        return True
    results = [now.get(x.group) for x in model.readers.get(group, ()) if x.group != group and joins(model, x)]
    return any(p is not None and (r.min < p.range.min or r.max > p.range.max) for p in results)


def _weights(bench: Bench, matters: set[str]) -> list[Variant]:
    """Every layer's weights as they are, by ``mmse``, and rounded together."""
    entries = bench.calibrated.entries
    single = [x.name for x in bench.model.layers if len(x.weights) == 1 and x.name + WEIGHT_SUFFIX in matters]
    usual = [n for n in single if (e := entries.get(n + WEIGHT_SUFFIX)) and e.algorithm == "normal"]
    plans = {
        "": bench.plan(Choice()),
        "mmse": bench.plan(Choice({}, Tuning(weights=dict.fromkeys(usual, "mmse")))),
        TOGETHER: bench.plan(Choice({}, Tuning(weights=dict.fromkeys(bench.rounded, "gptq")))),
    }
    return [
        Variant("weights", layer, how, weight_forms(bench.model, plan, weights, [layer]))
        for layer in usual
        for how, (plan, weights) in plans.items()
        if how != TOGETHER or layer in bench.rounded
    ]


def _biases(bench: Bench, matters: set[str]) -> list[Variant]:
    """Every layer's rounded weights with its bias as it is and corrected."""
    plan, _ = bench.plan(Choice())
    found: list[Variant] = []
    for layer, bias in bench.corrections.items():
        if layer + WEIGHT_SUFFIX in matters:
            corrected = bench.weights.changed({bench.model.layer[layer].bias: bias})
            for how, weights in (("", bench.weights), (CORRECTED, corrected)):
                found.append(Variant("biases", layer, how, weight_forms(bench.model, plan, weights, [layer])))
    return found


def of_sources(found: Sequence[NoiseSource], damage: Sequence[float]) -> dict[str, float]:
    """The damage of layers' weights and groups' tensors by ``LAYER:weight`` and group."""
    alone: dict[str, float] = {}
    for source, value in zip(found, damage, strict=True):
        if source.unit:
            alone.update({key[1] + WEIGHT_SUFFIX: value for key in source.forms})
        elif not source.reader:
            alone[source.group] = value
    return alone
