"""What costs no bits: ranges by another algorithm, weights rounded otherwise, corrected biases.

Each is measured alone first. Clipping, shifted means and errors that cancel are no independent noise, so what helps
alone may hurt together: whole repairs of weights are tried first, then the better ranges in nested sets, clearest gain
first, and the joint model decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from hybridq.quant.dtypes import Precision
from hybridq.quant.params import TOGETHER
from hybridq.quant.records import WEIGHT_SUFFIX
from hybridq.repair.bias_correction import corrected_biases
from hybridq.repair.gptq import compensated_weights
from hybridq.search.growing import Forms
from hybridq.search.joint import BIAS, CORRECTED, Bench, Choice
from hybridq.search.noise import weight_forms

STEPS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)  # ranges that alone do less than this share of the damage
CLEAR = 0.95  # a repair of one layer that alone does less than this share of the damage helps
WORTH = 0.97  # a set must bring the damage below this share of what it was
REPAIRS = 2  # of weights and biases, the best of which meet every set of ranges

Progress = Callable[[int], object]
Variant = tuple[str, str, Forms]  # entry, algorithm ("" for what is there), forms
Alternatives = Mapping[str, tuple[float, str]]  # by entry: share of the damage there is now, algorithm


def tuned(
    bench: Bench,
    samples: Sequence[int],
    raised: Mapping[str, Precision] | None = None,
    *,
    progress: Progress | None = None,
) -> list[Choice]:
    """Starts for the search: the best of all sets, the best that leaves ranges or weights alone, what is there.

    What is best with all layers in 8 bits need not be best once some are raised: the search looks at each. ``raised``
    layers have more bits while the sets are measured: what is broken without them would hide what else helps.
    """
    layers = raised or {}
    plan, _ = bench.plan(Choice())
    feeds = bench.reference.feeds
    bench.corrections = corrected_biases(bench.model, plan, bench.weights, feeds, threads=bench.threads)
    bench.rounded = compensated_weights(bench.model, plan, bench.weights, feeds, threads=bench.threads)
    found = _alternatives(bench, samples, progress)
    ranges = {k: v for k, v in found.items() if k in bench.model.group}
    repairs = [c for _, c in _ranked(bench, layers, [Choice({}, r) for r in _repairs(bench, found)])]
    sets = [{k: a for k, (share, a) in ranges.items() if share < step} for step in STEPS]
    trials = [Choice({}, {**r.algorithms, **s}) for r in repairs[:REPAIRS] for s in sets]
    ranked = _ranked(bench, layers, [*repairs, *trials, *(Choice({}, s) for s in sets)])
    start = bench.measure(Choice(layers)).damage
    better = [c for damage, c in ranked if damage < WORTH * start]
    untouched = [c for c in better if all(k in ranges for k in c.algorithms)]
    as_measured = [c for c in better if not any(k in ranges for k in c.algorithms)]
    starts = [*better[:2], *untouched[:1], *as_measured[:1], Choice()]
    return list({c.key: c for c in starts}.values())


def _ranked(bench: Bench, layers: Mapping[str, Precision], trials: Sequence[Choice]) -> list[tuple[float, Choice]]:
    """Different choices with their damage while ``layers`` have more bits, the least first."""
    different = list({c.key: c for c in trials}.values())
    measured = [f.damage for f in bench.measure_all([Choice(layers, c.algorithms) for c in different])]
    return sorted(zip(measured, different, strict=True), key=lambda x: (x[0], x[1].key))


def _repairs(bench: Bench, found: Alternatives) -> Iterator[dict[str, str]]:
    """Ways to treat the weights and biases of the whole model."""
    biases = {k: v for k, v in found.items() if k.endswith(BIAS)}
    weights = {k: v for k, v in found.items() if k.endswith(WEIGHT_SUFFIX)}
    yield {}
    yield {k: a for k, (_, a) in biases.items()}
    yield {k: a for k, (share, a) in biases.items() if share < CLEAR}
    yield _by_gptq(bench)
    yield {k: a for k, (share, a) in weights.items() if share < CLEAR}
    chosen: dict[str, str] = {}
    for layer in bench.model.layer:
        both = [(*v, k) for k in (layer + BIAS, layer + WEIGHT_SUFFIX) if (v := found.get(k))]
        chosen |= {key: a for share, a, key in sorted(both)[:1] if share < CLEAR}
    yield chosen


def _by_gptq(bench: Bench) -> dict[str, str]:
    return {n + WEIGHT_SUFFIX: TOGETHER for n in bench.rounded}


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
    """Every layer's weights as they are, by ``mmse``, and rounded together."""
    entries = bench.calibrated.entries
    keys = {x.name + WEIGHT_SUFFIX: x.name for x in bench.model.layers if len(x.weights) == 1}
    usual = {k: n for k, n in keys.items() if k in entries and entries[k].algorithm == "normal"}
    plans = {
        "": bench.plan(Choice()),
        "mmse": bench.plan(Choice(algorithms=dict.fromkeys(usual, "mmse"))),
        TOGETHER: bench.plan(Choice(algorithms=_by_gptq(bench))),
    }
    found: list[Variant] = []
    for key, layer in usual.items():
        for name, (plan, weights) in plans.items():
            forms = weight_forms(bench.model, plan, weights, [layer])
            if forms and (name != TOGETHER or layer in bench.rounded):
                found.append((key, name, forms))
    return found


def _biases(bench: Bench) -> list[Variant]:
    """Every layer's rounded weights with its bias as it is and corrected."""
    plan, _ = bench.plan(Choice())
    found: list[Variant] = []
    for layer, bias in bench.corrections.items():
        corrected = bench.weights.changed({bench.model.layer[layer].bias: bias})
        for name, weights in (("", bench.weights), (CORRECTED, corrected)):
            found.append((layer + BIAS, name, weight_forms(bench.model, plan, weights, [layer])))
    return [v for v in found if v[2]]
