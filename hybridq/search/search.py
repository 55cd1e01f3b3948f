"""Which layers need more bits: the best choice of precisions for a budget, measured. RKNN's ``auto_hybrid``.

1. What costs no bits is tried first: ranges by other algorithms, corrected biases (``search.tuning``).
2. Every quantizer alone: its damage at the model outputs (``search.noise``, ``search.growing``).
3. Noise adds up, so a knapsack with pairs gives the Pareto front (``search.knapsack``).
4. The joint models are built and measured, and the best is repaired and trimmed (``search.trim``).

Everything measured is kept in ``search.json``; given that file the result is the same to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq import __version__, targets
from hybridq.compare.metric import Metric, metric_name
from hybridq.errors import ConfigError, DatasetError
from hybridq.files.seal import text_digest
from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed, session
from hybridq.plan.shares import high_fraction, share_of_macs
from hybridq.quant.dtypes import Precision, widest
from hybridq.quant.records import Calibrated
from hybridq.search.budget import USUAL_HIGH, Budget
from hybridq.search.costs import Times, measure_times
from hybridq.search.damage import measure_reference
from hybridq.search.frontier import Frontier
from hybridq.search.joint import BIAS, Bench, Choice, Figures
from hybridq.search.noise import NO_PAIRS, pairs, sources
from hybridq.search.result import content, finished, recall
from hybridq.search.speed import SHARES, fast_enough
from hybridq.search.trim import cheapest_enough, improve, trim
from hybridq.search.tuning import tuned
from hybridq.storage.state import assemble, to_json
from hybridq.storage.weights import Weights

MENDING = 0.05  # share of the MACs that may mend what is broken before ranges are tried
MENDED = 0.3  # of the damage: what is left of it where something was broken
SAMPLES = (16, 64)  # calibration samples that every choice is measured on: at least, at most
WORK = 2e10  # multiply-accumulates that they should not exceed
ALONE = 16  # of these samples, on which each quantizer is measured
LOST_SLICE = 10.0  # dB below which a slice that had signal is as good as lost
NEARLY = 1.02  # of the damage: what fewer bits may add where several precisions may be chosen

Progress = Callable[[str, int, int | None], object]
Save = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class SearchResult:
    """``content`` is what ``search.json`` holds; ``layers`` and ``algorithms`` go into the cfg, ``reasons`` beside.

    ``biases`` and ``rounded`` are corrected biases and weights rounded together, by layer; they count while a layer has
    8 bits. ``feasible`` is false when the budget cannot be held; the choice is then the best that can be reached.
    """

    feasible: bool
    layers: Mapping[str, Precision]
    algorithms: Mapping[str, str]
    biases: Mapping[str, NDArray[Any]]
    rounded: Mapping[str, NDArray[Any]]
    reasons: Mapping[str, str]
    figures: Figures
    content: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...] = ()


def search(
    model: Model,
    weights: Weights,
    calibrated: Calibrated,
    feeds: Iterable[Feed],
    budget: Budget | None = None,
    *,
    metric: Metric | None = None,
    precisions: Sequence[Precision] = (),
    samples: int = 0,
    seed: int = 0,
    threads: int = 1,
    workers: int = 1,
    previous: Mapping[str, Any] | None = None,
    save: Save | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the layers that need more than 8 bits.

    ``feeds`` are calibration samples; ``samples`` of them (0: as many as are quick), spread evenly, are used.
    ``precisions``: 8 bits and what layers may rise to (the widest first, then as few bits as do as well); by default
    those that make sense on the target. ``previous`` is the content of an earlier ``search.json`` of the same question:
    what it measured is not measured again. ``save`` is called with the content so far after each measurement. Raises
    ConfigError for impossible precisions and DatasetError without samples.
    """
    budget = budget or Budget()
    if budget.max_drop is not None and metric is None:
        raise ConfigError("max_drop says how much a metric may drop", hint="Give it: --metric module.py:function.")
    high = _high_precisions(calibrated, precisions)
    chosen = _spread(feeds, samples or int(np.clip(WORK / max(1, model.macs), *SAMPLES)))
    say = progress or (lambda what, done, total: None)
    say("running the float model", 0, None)
    reference = measure_reference(session(assemble(model.proto, weights), threads=threads), chosen, model)
    bench = Bench(model, weights, calibrated, reference, threads, workers, metric)
    question = _question(bench, high, seed)
    work = _Search(bench, budget, high[0], high[1:], say, recall(bench, question, previous))
    if save is not None:
        keep = save

        def saving() -> None:
            keep(content(bench, question, work.times))

        bench.save = saving
    return work.run(question)


def _question(bench: Bench, high: Sequence[Precision], seed: int) -> dict[str, Any]:
    """What the measurements depend on."""
    calibrated = bench.calibrated
    return {
        "hybridq": __version__,
        "model": bench.model.sha256,
        "target": calibrated.target,
        "precision": ",".join(high),
        "samples": len(bench.reference.feeds),
        "seed": seed,
        "default": str(calibrated.default),
        "algorithm": calibrated.algorithm,
        "calibration": text_digest(json.dumps(to_json(calibrated))),
        "metric": metric_name(bench.metric) if bench.metric else "",
    }


@dataclass
class _Search:
    """One search: the steps of the module's text, in order."""

    bench: Bench
    budget: Budget
    precision: Precision
    narrower: tuple[Precision, ...]
    say: Progress
    times: Times | None

    def run(self, question: dict[str, Any]) -> SearchResult:
        """All steps."""
        bench = self.bench
        if self.budget.asks_quality and self._holds(bench.measure(Choice())):
            return self._result(question, Frontier(bench, Choice(), NO_PAIRS, 0.0, self.precision), (), True)
        subset = list(range(0, len(bench.reference.feeds), max(1, len(bench.reference.feeds) // ALONE)))
        mended = self._mended(subset)
        starts = tuned(bench, subset, mended, progress=lambda done: self.say("trying other ranges", done, None))
        front = min((self._frontier(s, subset) for s in starts), key=self._promise)
        if self.times is None:
            self.say("measuring times", 0, None)
            self.times = measure_times(bench, front.start, self.precision)
        return self._result(question, front, *self._choose(front))

    def _holds(self, figures: Figures) -> bool:
        """Whether the whole budget holds without looking any further; a speedup needs a clock."""
        return self.budget.min_speedup is None and figures.high <= self.budget.high and self._enough(figures)

    def _result(
        self, question: dict[str, Any], front: Frontier, units: tuple[str, ...], feasible: bool
    ) -> SearchResult:
        bench, start = self.bench, front.start
        chosen = self._narrowed(front, units)
        reasons = self._reasons(chosen, units)
        figures = bench.measure(chosen)
        plan, _ = bench.plan(chosen)
        biases, rounded = bench.biases(start, plan), {n: bench.rounded[n] for n in bench.together(start)}
        algorithms = {k: a for k, a in start.algorithms.items() if not k.endswith(BIAS)}
        layers = {n: chosen.layers[n] for n in reasons}
        found = content(bench, question, self.times)
        points = front.within(self.budget.high)
        warnings = lost_slices(figures, self.budget, feasible)
        made = finished(found, front, points, (units, chosen, layers), self.budget, feasible, reasons, warnings)
        return SearchResult(feasible, layers, algorithms, biases, rounded, reasons, figures, made, tuple(warnings))

    def _mended(self, subset: list[int]) -> dict[str, Precision]:
        """The few cheap layers whose bits take off most of the damage, if there are such."""
        front = self._frontier(Choice(), subset)
        choice = front.choice(front.at(min(self.budget.high, MENDING)).raised)
        broken = self.bench.measure(choice).damage < MENDED * self.bench.measure(Choice()).damage
        return dict(choice.layers) if broken else {}

    def _promise(self, front: Frontier) -> float:
        """The least damage that a start reaches within the budget, by a first look."""
        shares = [x * min(self.budget.high, 2 * USUAL_HIGH) for x in (1.0, 0.67, 0.33)]
        looks = [front.choice(front.at(share).raised) for share in shares]
        return min(f.damage for f in self.bench.measure_all(looks))

    def _frontier(self, start: Choice, subset: list[int]) -> Frontier:
        bench = self.bench
        plan, weights = bench.plan(start)
        found = sources(bench.model, plan, weights)
        total = len(found)
        damage = bench.damages(
            f"alone|{start.key}", [s.forms for s in found], subset, lambda n: self.say("each quantizer alone", n, total)
        )
        cost = {g.name: share_of_macs(bench.model, g.layers) for g in bench.model.groups}
        share = high_fraction(bench.model, plan)
        return Frontier(bench, start, pairs(bench.model, plan, found, damage, cost), share, self.precision)

    def _choose(self, front: Frontier) -> tuple[tuple[str, ...], bool]:
        """Units to raise, and whether the budget holds."""
        limit = self.budget.high
        if self.budget.min_speedup is not None:
            return self._fast(front, limit)
        candidates = front.within(limit)
        self.say("measuring joint models", 0, len(candidates))
        self.bench.measure_all([front.choice(c.raised) for c in candidates])
        if self.budget.asks_quality:
            return self._good_enough(front, limit)
        best = min(candidates, key=lambda c: (front.judged(c.raised), c.high))
        self.say("repairing", 0, None)
        units = trim(front, improve(front, best.raised, limit))
        allowed = max(limit, front.base_high) if self.budget == Budget() else limit  # what must stay float is no choice
        return units, self.bench.measure(front.choice(units)).high <= allowed + 1e-12

    def _fast(self, front: Frontier, limit: float) -> tuple[tuple[str, ...], bool]:
        assert self.times is not None
        assert self.budget.min_speedup is not None
        self.say("timing joint models", 0, None)
        shares = [s for s in SHARES if s < limit] + [limit]
        units, fast = fast_enough(front, self.times, self.budget.min_speedup, shares)
        return units, fast and self._enough(self.bench.measure(front.choice(units)))

    def _good_enough(self, front: Frontier, limit: float) -> tuple[tuple[str, ...], bool]:
        candidates = front.within(limit)
        units = cheapest_enough(front, candidates, self._enough)
        if units is not None:
            return trim(front, units, self._enough), True
        best = max(candidates, key=lambda c: self._reached(self.bench.measure(front.choice(c.raised))))
        units = improve(front, best.raised, limit)
        return units, self._enough(self.bench.measure(front.choice(units)))

    def _enough(self, figures: Figures) -> bool:
        asks_db = self.budget.min_sqnr is not None or self.budget.min_worst_sqnr is not None
        good = not asks_db or self._missing(figures) <= 0
        if self.budget.max_drop is not None and figures.metric is not None:
            good = good and self._float_metric() - figures.metric <= self.budget.max_drop + 1e-12
        return good

    def _reached(self, figures: Figures) -> float:
        has_metric = figures.metric is not None and self.budget.max_drop is not None
        return figures.metric if has_metric and figures.metric is not None else -self._missing(figures)

    def _missing(self, figures: Figures) -> float:
        """How many dB the worst of what is asked for lack; negative where more is there."""
        asked = ((self.budget.min_sqnr, figures.least), (self.budget.min_worst_sqnr, figures.least_worst))
        return max((db - found for db, found in asked if db is not None), default=-figures.least)

    def _float_metric(self) -> float:
        reference = self.bench.reference
        outputs = [dict(zip(reference.names, sample, strict=True)) for sample in reference.outputs]
        assert self.bench.metric is not None
        return float(self.bench.metric(outputs))

    def _narrowed(self, front: Frontier, units: tuple[str, ...]) -> Choice:
        """The choice with fewer bits for units that do as well with them: all at once, else one by one."""
        bench, chosen = self.bench, front.choice(units)
        limit = NEARLY * bench.measure(chosen).damage
        timed = self.budget.min_speedup is not None

        def tried(names: Sequence[str], precision: Precision) -> Choice:
            layers = [n for u in names for n in bench.model.group[u].layers]
            return Choice({**chosen.layers, **dict.fromkeys(layers, precision)}, chosen.algorithms)

        def suits(trial: Choice) -> bool:
            figures = bench.measure(trial)
            return figures.damage <= limit and (not self.budget.asks_quality or self._enough(figures))

        for precision in () if timed or not units else reversed(self.narrower):
            self.say(f"trying {precision}", 0, len(units))
            open_units = [
                u for u in units if all(chosen.layers[n] is self.precision for n in bench.model.group[u].layers)
            ]
            for names in [open_units, *([u] for u in open_units)]:
                trial = tried(names, precision)
                if names and suits(trial):
                    chosen = trial
                    if len(names) == len(open_units):
                        break
        return chosen

    def _reasons(self, chosen: Choice, units: tuple[str, ...]) -> dict[str, str]:
        """By raised layer, the most useful first: what its unit does for the output that needs it most."""
        model, whole = self.bench.model, self.bench.measure(chosen)
        without = []
        for unit in units:
            kept = {n: p for n, p in chosen.layers.items() if n not in model.group[unit].layers}
            without.append(Choice(kept, chosen.algorithms))
        ranked = sorted(zip(units, self.bench.measure_all(without), strict=True), key=lambda x: (-x[1].damage, x[0]))
        found = {}
        for unit, figures in ranked:
            text = _difference(figures, whole)
            if self.times is not None:
                text += f", {100 * self.times.extra(unit):+.1f} % time"
            layers = [n for n in model.group[unit].layers if not model.layer[n].float_only]
            found.update(dict.fromkeys(layers, text))
        return found


def _difference(before: Figures, after: Figures) -> str:
    """The figure that gains most: of an output as a whole, or of its worst slice."""
    pairs = [
        (after_db[o] - before_db[o], o + what, before_db[o], after_db[o])
        for what, before_db, after_db in (
            ("", before.sqnr_db, after.sqnr_db),
            (", worst slice", before.worst_sqnr_db, after.worst_sqnr_db),
        )
        for o in after_db
    ]
    _, what, low, high = max(pairs, default=(0.0, "outputs", 0.0, 0.0))
    return f"{what}: {low:.1f} dB -> {high:.1f} dB"


def lost_slices(figures: Figures, budget: Budget, feasible: bool) -> list[str]:
    """What to know of a budget that holds for an output as a whole while a slice of it is nearly gone."""
    if not feasible or budget.min_sqnr is None:
        return []
    return [
        f"{name} has {figures.sqnr_db[name]:.1f} dB as a whole, but its worst slice has {worst:.1f} dB: "
        f"--min-sqnr worst:{LOST_SLICE:g} asks for that one too"
        for name, worst in figures.worst_sqnr_db.items()
        if worst < LOST_SLICE <= figures.sqnr_db[name]
    ]


def _high_precisions(calibrated: Calibrated, precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """What layers may rise to, the widest first."""
    target = targets.load(calibrated.target)
    wanted = [p for p in precisions or target.search if p.bits > 8]
    low = [p for p in precisions if p.bits <= 8 and p is not calibrated.default]
    if low:
        message = f"the layers left alone have {calibrated.default}, not {low[0]}"
        raise ConfigError(message, hint=f"Step1 decides that: --dtype {low[0]}.")
    missing = [p for p in wanted if p not in target.precisions]
    if missing:
        raise ConfigError(f"{target.name} has no {missing[0]}", hint=f"It has {', '.join(target.precisions)}.")
    if not wanted:
        raise ConfigError("no precision above 8 bits to choose from", hint="Add one, as in --precisions uint8,float32.")
    found = []
    while wanted:
        found.append(widest(wanted))
        wanted = [p for p in wanted if p is not found[-1]]
    return tuple(found)


def _spread(feeds: Iterable[Feed], samples: int) -> list[Feed]:
    """Samples spread evenly over the dataset."""
    whole = list(islice(feeds, 100_000)) if not isinstance(feeds, list) else feeds
    if not whole:
        raise DatasetError("the search needs at least one sample", hint="Give it the calibration dataset.")
    at = np.unique(np.linspace(0, len(whole) - 1, min(samples, len(whole))).round().astype(int))
    return [whole[i] for i in at]


__all__ = ["Budget", "SearchResult", "search"]
