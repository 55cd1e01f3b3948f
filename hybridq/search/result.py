"""``search.json``: everything measured, the Pareto front and the choice. Described by ``search-1.schema.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridq.quant.dtypes import Precision
from hybridq.quant.metrics import CenteredDamage
from hybridq.search.allocation.costs import Times
from hybridq.search.allocation.frontier import Candidate, Frontier
from hybridq.search.budget import Budget
from hybridq.search.choice import Choice, Figures
from hybridq.search.measuring.figures import bounded
from hybridq.search.measuring.joint import Bench

FORMAT = "hybridq.search/1"
Json = dict[str, Any]


def content(bench: Bench, question: Mapping[str, Any], times: Times | None) -> Json:
    """What was measured so far, enough to go on from here."""
    found: Json = {"format": FORMAT, "question": dict(question), "measured": {}, "alone": dict(bench.alone)}
    found["measured"] = {k: _figures(f) for k, f in bench.measured.items()}
    if times is not None:
        found["times"] = {
            "low_us": dict(times.low),
            "high_us": dict(times.high),
            "boundary_ns": times.boundary,
            "total_us": times.total,
            "float_us": times.given,
            "speedups": dict(times.speedups),
        }
    return found


@dataclass(frozen=True)
class Outcome:
    """What a search decided: ``layers`` are the precisions that are written into the cfg, each with its reason.

    ``feasible``: the budget is held. ``warnings`` say what the choice still loses.
    """

    chosen: Choice
    feasible: bool
    layers: Mapping[str, Precision]
    reasons: Mapping[str, str]
    warnings: Sequence[str]


def finished(found: Json, front: Frontier, budget: Budget, outcome: Outcome, costs: Times | None) -> Json:
    """The content with its result in front."""
    bench, chosen, reasons = front.bench, outcome.chosen, outcome.reasons
    tuning = chosen.tuning
    raised = [u for u in front.pairs.units if set(bench.model.group[u].layers) & set(chosen.layers)]
    asked = {
        k: getattr(budget, k) for k in ("min_sqnr", "min_worst_sqnr", "max_drop", "max_high", "min_speedup", "time")
    }
    figures = bench.figures(chosen)
    head: Json = {
        "format": found["format"],
        "question": found["question"],
        "budget": {k: v for k, v in asked.items() if v is not None} or {"max_high": budget.high},
        "feasible": outcome.feasible,
        "warnings": list(outcome.warnings),
        "chosen": {
            "high_fraction": figures.high,
            "layers": {n: str(p) for n, p in outcome.layers.items()},
            "ranges": dict(tuning.ranges),
            "weights": dict(tuning.weights),
            **({"separate": list(bench.calibrated.separate)} if bench.calibrated.separate else {}),
            "corrected_biases": sorted(bench.biases(chosen)),
            "reasons": dict(reasons),
            "time_percent": costs.percent(reasons) if costs else {},
            "board_ms": costs.milliseconds(reasons) if costs else {},
            "predicted_damage": front.candidate_of(raised).damage,
            **_figures(figures),
        },
        "all_8bit": _all_8bit(bench, bench.figures(front.choice(()))),
        "front": [_point(bench.known[c.key], p) for c, p in _measured(front, budget.high)],
    }
    return head | {k: v for k, v in found.items() if k not in head}


def _measured(front: Frontier, high: float) -> list[tuple[Choice, Candidate]]:
    """Points of the Pareto front that were measured."""
    points = [(front.choice(p.raised), p) for p in front.within(high)]
    return [(c, p) for c, p in points if c.key in front.bench.known]


def _point(figures: Figures, point: Candidate) -> Json:
    return {
        "high_fraction": figures.high,
        "predicted_damage": point.damage,
        "damage": figures.damage,
        "sqnr_db": round(figures.least, 4),
        "worst_sqnr_db": round(figures.least_worst, 4),
        "units": list(point.raised),
    }


def _all_8bit(bench: Bench, figures: Figures) -> Json:
    """Its figures, with the centered SQNR of outputs that vary over the samples: their noise is that of the whole."""
    reference = bench.reference
    centered = {}
    for i, name in enumerate(reference.names):
        damage = CenteredDamage()
        for sample in reference.given:
            damage.add(sample[i], sample[i])
        if name in figures.sqnr_db and damage.share_db is not None:
            centered[name] = bounded(figures.sqnr_db[name] + damage.share_db)
    return {**_figures(figures), "centered_sqnr_db": centered}


def _figures(figures: Figures) -> Json:
    found: Json = {
        "damage": figures.damage,
        "high": figures.high,
        "sqnr_db": figures.sqnr_db,
        "worst_sqnr_db": figures.worst_sqnr_db,
        "halves": list(figures.halves),
    }
    if figures.changed:
        found["changed"] = dict(figures.changed)
    if figures.passed:
        found["passed"] = dict(figures.passed)
    return found if figures.metric is None else found | {"metric": figures.metric}


def _recalled(held: Mapping[str, Any]) -> Figures:
    whole, worst = (dict(held[k]) for k in ("sqnr_db", "worst_sqnr_db"))
    changed, passed = (dict(held.get(k, {})) for k in ("changed", "passed"))
    damage, high, (one, two) = float(held["damage"]), float(held["high"]), map(float, held["halves"])
    return Figures(damage, high, whole, worst, held.get("metric"), changed, (one, two), passed)


def recall(bench: Bench, question: Mapping[str, Any], previous: Mapping[str, Any] | None) -> Times | None:
    """Take over what an earlier search measured, if it asked the same."""
    if not isinstance(previous, Mapping) or previous.get("format") != FORMAT:
        return None
    if previous.get("question") != dict(question):
        return None
    try:
        known = {k: _recalled(f) for k, f in previous.get("measured", {}).items()}
        alone = {k: [float(x) for x in v] for k, v in previous.get("alone", {}).items()}
        t = previous.get("times")
        times = t and Times(
            t["low_us"], t["high_us"], t["boundary_ns"], t["total_us"], t["float_us"], dict(t.get("speedups", {}))
        )
    except (AttributeError, KeyError, TypeError, ValueError):  # damaged: everything is measured anew
        return None
    held = bench.recalled(known)
    bench.known.update(held.known)
    bench.elsewhere.update(held.elsewhere)
    bench.alone.update(alone)
    return times or None
