"""What costs no bits: each group's range by another algorithm, each layer's weights by another, corrected biases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybridq.searching.bias import corrected_biases
from hybridq.searching.growing import Forms
from hybridq.searching.joint import Bench, Choice
from hybridq.searching.noise import weight_forms

CLEARLY = 0.9  # another algorithm must do better than this times what is there
WORTH = 0.97  # and all of them together than this

Progress = Callable[[int], object]


def tuned(bench: Bench, samples: Sequence[int], *, progress: Progress | None = None) -> Choice:
    """The start of the search: the best of as calibrated, with other ranges, with corrected biases, with both."""
    plan, _ = bench.plan(Choice())
    feeds = bench.reference.feeds
    bench.corrections = corrected_biases(bench.model, plan, bench.weights, feeds, threads=bench.threads)
    algorithms = _algorithms(bench, samples, progress)
    best = Choice()
    for biases in (False, True):
        for chosen in ({}, algorithms):
            trial = Choice({}, chosen, biases and bool(bench.corrections))
            if bench.measure(trial).damage < WORTH * bench.measure(best).damage:
                best = trial
    return best


def _algorithms(bench: Bench, samples: Sequence[int], progress: Progress | None) -> dict[str, str]:
    """For each group and weight entry the algorithm that does least damage alone, where it clearly differs."""
    variants: list[tuple[str, str, Forms]] = []
    plan, _ = bench.plan(Choice())
    now = {g: p.stored for g, p in plan.groups.items() if p.stored.qparams is not None}
    names = sorted({a for m in bench.calibrated.measured.values() for a in m.ranges})
    for algorithm in names:
        other, _ = bench.plan(Choice(algorithms=dict.fromkeys(now, algorithm)))
        for group, stored in now.items():
            changed = other.groups[group].stored.qparams
            if changed is not None and stored.qparams is not None and not changed.same_as(stored.qparams):
                variants.append((group, algorithm, {("tensor", group): changed}))
    touched = list(dict.fromkeys(g for g, _, _ in variants))
    variants += [(g, "", {("tensor", g): now[g].qparams}) for g in touched]
    variants += _weights(bench)
    found = bench.damages("ranges", [v for _, _, v in variants], samples, progress)
    alone = {(key, algorithm): d for (key, algorithm, _), d in zip(variants, found.tolist(), strict=True)}
    best: dict[str, tuple[float, str]] = {}
    for (key, algorithm), damage in alone.items():
        if algorithm and damage < CLEARLY * alone[key, ""] and damage < best.get(key, (float("inf"), ""))[0]:
            best[key] = (damage, algorithm)
    return {key: algorithm for key, (_, algorithm) in sorted(best.items())}


def _weights(bench: Bench) -> list[tuple[str, str, Forms]]:
    """Every layer's weights as they are and by ``mmse``."""
    entries = bench.calibrated.entries
    keys = {x.name: f"{x.name}:weight" for x in bench.model.layers if f"{x.name}:weight" in entries}
    usual = {k: n for n, k in keys.items() if entries[k].algorithm != "mmse" and entries[k].dtype.is_integer}
    plan, _ = bench.plan(Choice())
    other, _ = bench.plan(Choice(algorithms=dict.fromkeys(usual, "mmse")))
    found: list[tuple[str, str, Forms]] = []
    for key, layer in usual.items():
        if len(bench.model.layer[layer].weights) == 1:
            forms = weight_forms(bench.model, plan, bench.weights, [layer])
            if forms:
                found.append((key, "", forms))
                found.append((key, "mmse", weight_forms(bench.model, other, bench.weights, [layer])))
    return found
