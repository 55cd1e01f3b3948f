"""What costs no bits: ranges by another algorithm, weights by another, corrected biases.

Each is measured alone first. Clipping and shifted means are no independent noise, so what helps alone may hurt
together: the better alternatives are taken in nested sets, clearest gain first, and the joint model decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybridq.searching.growing import Forms
from hybridq.searching.joint import BIAS, CORRECTED, Bench, Choice
from hybridq.searching.noise import weight_forms
from hybridq.weights.bias_correction import corrected_biases

STEPS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)  # alternatives that alone do less than this share of the damage
BIAS_STEPS = (0.0, 0.95, float("inf"))  # no corrected bias, those that help alone, all
WORTH = 0.97  # a set must bring the damage below this share of what it was

Progress = Callable[[int], object]
Variant = tuple[str, str, Forms]  # entry, algorithm ("" for what is there), forms


def tuned(bench: Bench, samples: Sequence[int], *, progress: Progress | None = None) -> list[Choice]:
    """Starts for the search, the best first: of all sets, of those without biases, of those with ranges as they are.

    What is best with all layers in 8 bits need not be best once some are raised: the search looks at each.
    """
    plan, _ = bench.plan(Choice())
    bench.corrections = corrected_biases(bench.model, plan, bench.weights, bench.reference.feeds, threads=bench.threads)
    found = _alternatives(bench, samples, progress)
    ranges = {k: v for k, v in found.items() if not k.endswith(BIAS)}
    biases = {k: v for k, v in found.items() if k.endswith(BIAS)}
    trials: dict[str, Choice] = {}
    for step in STEPS:
        for bias_step in BIAS_STEPS:
            kept = {k: a for k, (share, a) in ranges.items() if share < step}
            kept |= {k: a for k, (share, a) in biases.items() if share < bias_step}
            trials.setdefault(Choice({}, kept).key, Choice({}, kept))
    measured = bench.measure_all(list(trials.values()))
    start = bench.measure(Choice()).damage
    ranked = sorted(zip((f.damage for f in measured), trials.values(), strict=True), key=lambda x: (x[0], x[1].key))
    better = [c for damage, c in ranked if damage < WORTH * start]
    unbiased = [c for c in better if not any(k.endswith(BIAS) for k in c.algorithms)]
    biased = [c for c in better if all(k.endswith(BIAS) for k in c.algorithms)]
    starts = [*better[:2], *unbiased[:1], *biased[:1], Choice()]
    return list({c.key: c for c in starts}.values())


def _alternatives(bench: Bench, samples: Sequence[int], progress: Progress | None) -> dict[str, tuple[float, str]]:
    """For each entry the alternative that does least damage alone: its share of what is there now, its name."""
    variants = [*_ranges(bench), *_weights(bench), *_biases(bench)]
    found = bench.damages("ranges", [forms for _, _, forms in variants], samples, progress)
    now = {key: d for (key, name, _), d in zip(variants, found.tolist(), strict=True) if not name}
    best: dict[str, tuple[float, str]] = {}
    for (key, name, _), damage in zip(variants, found.tolist(), strict=True):
        share = damage / now[key] if now[key] > 0 else 1.0
        if name and share < best.get(key, (float("inf"), ""))[0]:
            best[key] = (share, name)
    return dict(sorted(best.items()))


def _ranges(bench: Bench) -> list[Variant]:
    """Every group's tensor with the range of each algorithm that gives another one than now."""
    plan, _ = bench.plan(Choice())
    now = {g: p.stored.qparams for g, p in plan.groups.items() if p.stored.qparams is not None}
    names = sorted({a for m in bench.calibrated.measured.values() for a in m.ranges})
    found: list[Variant] = []
    for name in names:
        other, _ = bench.plan(Choice(algorithms=dict.fromkeys(now, name)))
        for group, params in now.items():
            changed = other.groups[group].stored.qparams
            if changed is not None and params is not None and not changed.same_as(params):
                found.append((group, name, {("tensor", group): changed}))
    usual: list[Variant] = [(g, "", {("tensor", g): now[g]}) for g in dict.fromkeys(g for g, _, _ in found)]
    return usual + found


def _weights(bench: Bench) -> list[Variant]:
    """Every layer's weights as they are and by ``mmse``."""
    entries = bench.calibrated.entries
    keys = {f"{x.name}:weight": x.name for x in bench.model.layers if len(x.weights) == 1}
    usual = {k: n for k, n in keys.items() if k in entries and entries[k].algorithm != "mmse"}
    plan, _ = bench.plan(Choice())
    other, _ = bench.plan(Choice(algorithms=dict.fromkeys(usual, "mmse")))
    found: list[Variant] = []
    for key, layer in usual.items():
        for name, one in (("", plan), ("mmse", other)):
            forms = weight_forms(bench.model, one, bench.weights, [layer])
            if forms:
                found.append((key, name, forms))
    return found


def _biases(bench: Bench) -> list[Variant]:
    """Every layer's rounded weights with its bias as it is and corrected."""
    plan, _ = bench.plan(Choice())
    found: list[Variant] = []
    for layer, bias in bench.corrections.items():
        corrected = {**bench.weights, bench.model.layer[layer].bias: bias}
        for name, weights in (("", bench.weights), (CORRECTED, corrected)):
            found.append((layer + BIAS, name, weight_forms(bench.model, plan, weights, [layer])))
    return [v for v in found if v[2]]
