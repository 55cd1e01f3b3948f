"""What costs no bits: ranges by another algorithm, weights rounded otherwise, corrected biases.

Each is measured alone first, where the quantizer it changes does damage at all. Clipping, shifted means and errors that
cancel are no independent noise, so what helps alone may hurt together: whole repairs of weights are tried first, then
the better ranges in nested sets, clearest gain first, and the joint model decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hybridq.quant.dtypes import Precision
from hybridq.quant.params import TOGETHER
from hybridq.quant.records import WEIGHT_SUFFIX
from hybridq.repair.bias_correction import corrected_biases
from hybridq.repair.gptq import compensated_weights
from hybridq.search.choice import Choice, Tuning, rounding
from hybridq.search.growing import Forms
from hybridq.search.joint import Bench
from hybridq.search.noise import Source, weight_forms

STEPS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)  # ranges that alone do less than this share of the damage
FEW_STEPS = (0.5, 0.8)
FEW_SAMPLES = 4
CLEAR = 0.95  # a repair of one layer that alone does less than this share of the damage helps
WORTH = 0.97  # a set must bring the damage below this share of what it was
REPAIRS = 2  # of weights and biases, the best of which meet every set of ranges
MATTERS = 0.99  # of the damage: quantizers that do the rest have no alternative worth a measurement

Best = Mapping[str, tuple[float, str]]  # by group or layer: share of the damage there is now, algorithm


@dataclass(frozen=True)
class Alternatives:
    """What does least damage alone, for groups' ranges, layers' weights and layers' biases."""

    ranges: Best = field(default_factory=dict)
    weights: Best = field(default_factory=dict)
    biases: Best = field(default_factory=dict)

    def clear(self, held: Best, share: float = CLEAR) -> dict[str, str]:
        """Those that alone do less than a share of the damage there is."""
        return {k: how for k, (s, how) in held.items() if s < share}


@dataclass(frozen=True)
class Variant:
    """One quantizer in one form: ``kind`` is a field of ``Alternatives``, ``how`` "" for what is there now."""

    kind: str
    name: str
    how: str
    forms: Forms


def prepare(bench: Bench, given: Tuning) -> None:
    """Make the repairs that a tuning may use; those that step1 made already are taken as they are."""
    plan, _ = bench.plan(Choice())
    feeds = bench.reference.feeds
    if not given.biases:
        bench.corrections = corrected_biases(bench.model, plan, bench.weights, feeds, threads=bench.threads)
    if not given.together:
        bench.rounded = compensated_weights(bench.model, plan, bench.weights, feeds, threads=bench.threads)


def tuned(
    bench: Bench,
    given: Tuning,
    alone: Mapping[str, float],
    samples: Sequence[int],
    raised: Mapping[str, Precision] | None = None,
    *,
    scarce: bool = False,
) -> tuple[list[Choice], Alternatives]:
    """Starts for the search, and what helps each quantizer alone.

    The starts: the best of all sets, the best that leaves ranges or weights alone, what is there.

    ``alone`` is the damage of layers' weights and groups' tensors by ``LAYER:weight`` and group. What is best with all
    layers in 8 bits need not be best once some are raised: the search looks at each. ``raised`` layers have more bits
    while the sets are measured: what is broken without them would hide what else helps. ``scarce``: few joint models.
    """
    layers = raised or {}
    few = samples[: max(FEW_SAMPLES, len(samples) // 2)]  # an alternative is far better, or it is not worth having
    found = _alternatives(bench, alone, few)
    repairs = [c for _, c in _ranked(bench, layers, [given, *_repairs(bench, found)])]
    sets = [found.clear(found.ranges, step) for step in (FEW_STEPS if scarce else STEPS)]
    trials = [replace(r, ranges=s) for r in repairs[: 1 if scarce else REPAIRS] for s in sets]
    ranked = _ranked(bench, layers, [*repairs, *trials, *(Tuning(s) for s in sets)])
    start = bench.measure(Choice(layers)).damage
    better = [t for damage, t in ranked if damage < WORTH * start]
    untouched = [t for t in better if not t.weights and not t.biases]
    as_measured = [t for t in better if not t.ranges]
    starts = [*better[:2], *untouched[:1], *as_measured[:1], given, Tuning()]
    return list({(c := Choice({}, t)).key: c for t in starts}.values()), found


def _ranked(bench: Bench, layers: Mapping[str, Precision], trials: Sequence[Tuning]) -> list[tuple[float, Tuning]]:
    """Different tunings with their damage while ``layers`` have more bits, the least first."""
    different = list({(c := Choice(layers, t)).key: c for t in trials}.values())
    measured = [f.damage for f in bench.measure_all(different)]
    ranked = sorted(zip(measured, different, strict=True), key=lambda x: (x[0], x[1].key))
    return [(damage, choice.tuning) for damage, choice in ranked]


def _repairs(bench: Bench, found: Alternatives) -> Iterator[Tuning]:
    """Ways to treat the weights and biases of the whole model."""
    weights = {n: rounding(how) for n, how in found.clear(found.weights).items()}
    yield Tuning()
    yield Tuning(biases=frozenset(bench.corrections))
    yield Tuning(biases=frozenset(found.clear(found.biases)))
    yield Tuning(weights=dict.fromkeys(bench.rounded, "gptq"))
    yield Tuning(weights=weights)
    nothing = (float("inf"), "")
    of_bias = {
        n for n in found.clear(found.biases) if found.biases[n] <= found.weights.get(n, nothing)
    }  # at most one of the two a layer: both take back the same error
    yield Tuning(weights={n: how for n, how in weights.items() if n not in of_bias}, biases=frozenset(of_bias))


def _alternatives(bench: Bench, alone: Mapping[str, float], samples: Sequence[int]) -> Alternatives:
    """For each quantizer that matters the alternative that does least damage alone."""
    matters = _mattering(alone)
    variants = [v for v in (*_ranges(bench, matters), *_weights(bench, matters), *_biases(bench, matters)) if v.forms]
    found = bench.damages([v.forms for v in variants], samples, "other ranges and roundings, each alone")
    now = {(v.kind, v.name): d for v, d in zip(variants, found.tolist(), strict=True) if not v.how}
    best: dict[str, dict[str, tuple[float, str]]] = {"ranges": {}, "weights": {}, "biases": {}}
    for v, damage in zip(variants, found.tolist(), strict=True):
        there = now[v.kind, v.name]
        share = damage / there if there > 0 else 1.0
        if v.how and share < best[v.kind].get(v.name, (float("inf"), ""))[0]:
            best[v.kind][v.name] = (share, v.how)
    return Alternatives(**{kind: dict(sorted(held.items())) for kind, held in best.items()})


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
            if changed is not None and params is not None and not changed.same_as(params):
                found.append(Variant("ranges", group, name, {("tensor", group): changed}))
    usual = [Variant("ranges", g, "", {("tensor", g): now[g]}) for g in dict.fromkeys(v.name for v in found)]
    return usual + found


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
            for how, weights in (("", bench.weights), ("corrected", corrected)):
                found.append(Variant("biases", layer, how, weight_forms(bench.model, plan, weights, [layer])))
    return found


def of_sources(found: Sequence[Source], damage: Sequence[float]) -> dict[str, float]:
    """The damage of layers' weights and groups' tensors by ``LAYER:weight`` and group."""
    alone: dict[str, float] = {}
    for source, value in zip(found, damage, strict=True):
        if source.unit:
            alone.update({key[1] + WEIGHT_SUFFIX: value for key in source.forms})
        elif not source.reader:
            alone[source.group] = value
    return alone
