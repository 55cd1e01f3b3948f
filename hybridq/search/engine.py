"""The steps of a search, in order.

1. What step1 left is measured: where it is good enough, nothing is raised and nothing else is done.
2. Every quantizer alone: its damage at the model outputs (``measuring.alone``, ``measuring.growing``). Noise adds up
   (``allocation.additive_noise``), so a knapsack with pairs says what to raise (``allocation.knapsack``).
   Before that, Concats whose inputs get scales of their own (``tuning.sharing``).
3. What costs no bits: ranges by other algorithms, rounded weights, corrected biases (``tuning.alternatives``), judged
   with the layers raised that the knapsack would raise with them (``tuning.starts``).
4. The joint models of the Pareto front are built and measured (``measuring.joint``); the best is repaired, its ranges
   and roundings are changed one by one (``tuning.polish``), what brings nothing is taken back (``allocation.trim``).
5. Precisions that are cheaper and do as well (``allocation.narrow``), and why each layer has what it has (``reasons``).

When all that may be spent is spent (``work``), the best choice that was measured is the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.execution.progress import Progress
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.share_of_macs import high_fraction, share_of_macs
from hybridq.quant.dtypes import Precision
from hybridq.search.allocation.additive_noise import pairs
from hybridq.search.allocation.costs import Times, measure_times
from hybridq.search.allocation.frontier import Candidate, Frontier
from hybridq.search.allocation.knapsack import NO_PAIRS
from hybridq.search.allocation.narrow import narrowed
from hybridq.search.allocation.profiles import board_times
from hybridq.search.allocation.speed import SHARES, fast_enough
from hybridq.search.allocation.trim import cheapest_enough, improve, trim
from hybridq.search.budget import USUAL_HIGH
from hybridq.search.choice import Choice, Figures, Tuning
from hybridq.search.judge import Judge
from hybridq.search.measuring.coarse import coarse_damages
from hybridq.search.measuring.damage import Doubles
from hybridq.search.measuring.joint import Bench
from hybridq.search.measuring.quantizers import NoiseSource, sources
from hybridq.search.reasons import kept_for_a_reason, reasons
from hybridq.search.result import Outcome, content, finished
from hybridq.search.tuning.alternatives import Alternatives, alternatives, of_sources, prepare
from hybridq.search.tuning.polish import polished
from hybridq.search.tuning.sharing import with_separate_concats
from hybridq.search.tuning.starts import ranked_starts
from hybridq.search.work import TimeUp, Work
from hybridq.targets import Target

STARTS = 2  # that promise most are followed
PREPARED = 0.3  # of the time there is left, if one was set, is for repairs and for other ranges alone
NEAR = 1.1  # of the least damage: what does no more is as good as it, as far as few samples can tell
SURER = 0.98  # of the answers expected to change: what changes fewer is better

Units = tuple[str, ...]


@dataclass(frozen=True)
class SearchResult:
    """``content`` is what ``search.json`` holds; ``layers`` and ``tuning`` go into the cfg, ``reasons`` beside.

    ``biases`` and ``rounded`` are the corrected biases and the weights rounded together that the tuning uses, by layer;
    they count while a layer has 8 bits. ``separate`` are the Concats whose inputs get scales of their own.
    ``feasible`` is false when the budget cannot be held; the choice is then the best that can be reached.
    """

    feasible: bool
    layers: Mapping[str, Precision]
    tuning: Tuning
    biases: Mapping[str, NDArray[Any]]
    rounded: Mapping[str, NDArray[Any]]
    reasons: Mapping[str, str]
    figures: Figures
    content: dict[str, Any] = field(repr=False)
    separate: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Apart:
    """Every quantizer of a plan with its damage alone."""

    plan: QuantPlan
    found: Sequence[NoiseSource]
    damage: Doubles

    def tuned(self, tuning: Tuning, known: Alternatives) -> Apart:
        """About what it is with another tuning, by what was measured of its parts."""
        shares = np.array([known.share(s, tuning) for s in self.found])
        return replace(self, damage=self.damage * shares)


@dataclass
class SearchEngine:
    """One search. ``precisions`` are those above 8 bits, the widest first; ``given`` is what step1 left."""

    bench: Bench
    judge: Judge
    work: Work
    precisions: tuple[Precision, ...]
    given: Choice
    remedies: Sequence[Mapping[str, Precision]]
    threads: int
    target: Target
    report: Progress
    times: Times | None
    board: Mapping[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    found: Alternatives = field(default_factory=Alternatives)

    @property
    def limit(self) -> float:
        """The most MACs above 8 bits."""
        return self._usual if self.judge.budget.asks_nothing else self.judge.budget.high

    @property
    def _usual(self) -> float:
        """The usual share of the MACs; what step1 leaves in float by itself uses up no more than half of it."""
        left = self.bench.known.get(self.given.key)
        return max(USUAL_HIGH, left.high + USUAL_HIGH / 2) if left else USUAL_HIGH

    def say(self, what: str, done: int, total: int | None) -> None:
        """Report progress with the best so far."""
        best = self._best_known()
        figures = self.bench.known.get(best.key)
        if figures is not None:
            raised = f", {len(best.layers)} layers raised" if best.layers else ""
            what += f" (best so far {figures.least:.1f} dB, worst slice {figures.least_worst:.1f} dB{raised})"
        self.report(what, done, total)

    def run(self, question: dict[str, Any]) -> SearchResult:
        """All steps."""
        try:
            front, units, feasible = self._surest(*self._search())
            chosen = self._not_worse(self._narrowed(front, units))
        except TimeUp:
            chosen = self._best_known()
            front = self._empty(Choice({}, chosen.tuning))
            figures = self.bench.known.get(chosen.key)
            feasible = figures is not None and self.judge.holds(figures)
        return self._result(question, front, chosen, feasible)

    def _surest(self, front: Frontier, units: Units, feasible: bool) -> tuple[Frontier, Units, bool]:
        """Of all that was measured and does about as little damage, what changes the fewest of float's answers.

        Damage is a sum of squares over all values; answers hang on those near a tie.
        """
        best = self.bench.measure(front.choice(units))
        if not self.judge.asks_share or best.doubt <= 0 or not units:
            return front, units, feasible
        near = [(f.doubt, k) for k, f in self.bench.known.items() if self._fits(k) and f.damage <= NEAR * best.damage]
        doubt, key = min(near, default=(best.doubt, ""))
        if not key or doubt >= SURER * best.doubt:
            return front, units, feasible
        found = self.bench.tried[key]
        groups = {self.bench.model.layer[n].group for n in found.layers}
        front = replace(front, start=Choice({}, found.tuning))
        return front, tuple(u for u in front.pairs.units if u in groups), feasible

    def _fits(self, key: str) -> bool:
        """Whether a choice was tried by this search and is within the limit."""
        return key in self.bench.tried and self.bench.known[key].high <= self.limit + 1e-12

    def _not_worse(self, chosen: Choice) -> Choice:
        """The choice, or what step1 left where that does less damage within the same limit."""
        given = self.bench.figures(self.given)
        fits = self.judge.asks_share and given.high <= self.limit + 1e-12
        return self.given if fits and given.damage < self.bench.measure(chosen).damage else chosen

    def _search(self) -> tuple[Frontier, Units, bool]:
        start = self.bench.measure(self.given)
        budget = self.judge.budget
        if budget.min_speedup is None and (
            self.judge.settled(start) or (budget.asks_quality and self.judge.holds(start))
        ):
            return self._empty(self.given), (), True
        if budget.min_speedup is None:
            self.bench = with_separate_concats(self.bench, self.given)
        fronts = self._fronts()
        if budget.min_speedup is not None:
            return (fronts[0], *self._fast(fronts[0]))
        if budget.asks_quality:
            return (fronts[0], *self._good_enough(fronts[0]))
        made = [(f, self._within_limit(f)) for f in fronts]
        return self._refined(*min(made, key=lambda m: m[0].judged(m[1])))

    def _fronts(self) -> list[Frontier]:
        """The additive model with the ranges and roundings that promise most, the best first."""
        samples = list(range(len(self.bench.reference.feeds)))[:: self._stride()][: self.work.alone]
        if self.bench.effort.deadline.seconds is not None:  # the clock may leave no time for more
            self.bench.measure_all(
                [Choice(r, self.given.tuning) for r in self._remedied()], "trying what step1 advises"
            )
        whole = self._apart(Choice(), samples)
        self.alone = of_sources(whole.found, whole.damage.tolist())
        self.bench.measure(
            self._raised(self._front(whole, Choice({}, self.given.tuning)))
        )  # all that there may be time for
        with self.bench.effort.within(PREPARED):  # without them the rest of the time is for joint models
            prepare(self.bench, self.given.tuning, self.bench.effort.deadline.ending(self.say))
            self.found = alternatives(self.bench, self.alone, samples)

        def tried(tuning: Tuning) -> Choice:
            return self._raised(self._front(whole.tuned(tuning, self.found), Choice({}, tuning)))

        likeliest = ranked_starts(self.bench, self.given.tuning, self.found, tried, self.work.trials // 5)
        followed = [Choice({}, t) for t in likeliest[: 1 if self.work.scarce or not self.judge.asks_share else STARTS]]
        if self.work.coarse:
            return [self._front(whole.tuned(c.tuning, self.found), c) for c in followed]
        return [self._front(self._apart(c, samples), c) for c in followed]

    def _stride(self) -> int:
        """Samples that quantizers are measured on are spread over all."""
        return max(1, len(self.bench.reference.feeds) // self.work.alone)

    def _apart(self, start: Choice, samples: list[int]) -> Apart:
        """Every quantizer of a choice alone."""
        plan, weights = self.bench.plan(start)
        found = sources(self.bench.model, plan, weights)
        if self.work.coarse:
            return Apart(plan, found, coarse_damages(self.bench, plan, weights, found, samples, self.work.apart))
        return Apart(plan, found, self.bench.damages([s.forms for s in found], samples))

    def _front(self, apart: Apart, start: Choice) -> Frontier:
        model = self.bench.model
        cost = {g.name: share_of_macs(model, g.layers) for g in model.groups}
        made = pairs(model, apart.plan, apart.found, apart.damage, cost)
        return Frontier(self.bench, start, made, high_fraction(model, apart.plan), self.precisions[0])

    def _raised(self, front: Frontier) -> Choice:
        """What the additive model would raise."""
        return front.choice(front.at(min(self.limit, self._usual)).raised)

    def _empty(self, start: Choice) -> Frontier:
        """A front without anything to raise."""
        return Frontier(self.bench, start, NO_PAIRS, 0.0, self.precisions[0])

    def _candidates(self, front: Frontier) -> list[Candidate]:
        """Sets within the limit, measured."""
        candidates = [*self._remedies(front), *front.within(self.limit, self.work.trials // 6)]
        self.bench.measure_all([front.choice(c.raised) for c in candidates])
        return candidates

    def _within_limit(self, front: Frontier) -> Units:
        """The best units to raise within the limit."""
        best = min(self._candidates(front), key=lambda c: (front.judged(c.raised), c.high))
        return improve(front, best.raised, self.limit, self.work.trials // 40)

    def _refined(self, front: Frontier, units: Units) -> tuple[Frontier, Units, bool]:
        """The best set with ranges and roundings that fit it, and no more units than it takes."""
        if not self.judge.settled(self.bench.measure(front.choice(units))):
            chosen = polished(self.bench, front.choice(units), self.found, self.alone, self.work.trials // 4)
            front = replace(front, start=Choice({}, chosen.tuning))
            units = improve(front, units, self.limit, self.work.trials // 80)
        units = self._settled(front, trim(front, units, most=self.work.trials // 8))
        high = self.bench.measure(front.choice(units)).high
        allowed = max(self.limit, front.base_high) if self.judge.budget.asks_nothing else self.limit
        return front, units, high <= allowed + 1e-12  # what must stay float is no choice

    def _settled(self, front: Frontier, units: Units) -> Units:
        """No more than it takes to give float's own answers, where those are reached."""
        if not self.judge.settled(self.bench.measure(front.choice(units))):
            return units
        candidates = [*front.within(self.limit, self.work.trials // 6), front.candidate_of(units)]
        least = cheapest_enough(front, sorted(candidates, key=lambda c: (c.high, c.damage)), self.judge.settled)
        return trim(front, least, self.judge.settled, self.work.trials // 8) if least is not None else units

    def _remedies(self, front: Frontier) -> list[Candidate]:
        """What the lint advises: each remedy and all together, as far as they fit."""
        found = [front.candidate_of(sorted(s & set(front.pairs.units))) for s in self._advised()]
        return [c for c in found if c.raised and c.high <= self.limit + 1e-12]

    def _remedied(self) -> list[dict[str, Precision]]:
        """The layers that these raise."""
        groups = self.bench.model.group
        return [{n: self.precisions[0] for g in sorted(s) for n in groups[g].layers} for s in self._advised()]

    def _advised(self) -> list[set[str]]:
        """Groups that the lint advises to raise: all together, and those of each remedy."""
        groups = [{self.bench.model.layer[n].group for n in r if n in self.bench.model.layer} for r in self.remedies]
        return [set[str]().union(*groups), *groups] if groups else []

    def _fast(self, front: Frontier) -> tuple[Units, bool]:
        limit, wanted = self.limit, self.judge.budget.min_speedup
        assert wanted is not None
        self.say("timing joint models", 0, None)
        shares = [s for s in SHARES if s < limit] + [limit]
        units, fast = fast_enough(front, self._timed(front.start), wanted, shares, self.threads)
        return units, fast and self.judge.enough(self.bench.measure(front.choice(units)))

    def _costs(self, start: Choice) -> Times | None:
        """What bits cost: on this machine where the model is to run here, else by the target's data and the profile."""
        if self.target.latency_aware:
            return self.times if self.bench.effort.deadline.over else self._timed(start)
        return board_times(self.bench.model, self.target, self.precisions[0], self.board)

    def _timed(self, start: Choice) -> Times:
        if self.times is None:
            self.say("measuring times", 0, None)
            self.times = measure_times(self.bench, start, self.precisions[0], self.threads)
        return self.times

    def _good_enough(self, front: Frontier) -> tuple[Units, bool]:
        candidates = self._candidates(front)
        ordered = sorted(candidates, key=lambda c: (c.high, c.damage))
        units = cheapest_enough(front, ordered, self.judge.enough)
        if units is not None:
            return trim(front, units, self.judge.enough, self.work.trials // 4), True
        best = max(candidates, key=lambda c: self.judge.reached(self.bench.measure(front.choice(c.raised))))
        units = improve(front, best.raised, self.limit, self.work.trials // 40)
        return units, self.judge.enough(self.bench.measure(front.choice(units)))

    def _narrowed(self, front: Frontier, units: Units) -> Choice:
        chosen = front.choice(units)
        if self.judge.budget.min_speedup is not None:
            return chosen
        if not units:
            return chosen
        quality = self.judge.enough if self.judge.budget.asks_quality else None
        for precision in reversed(self.precisions[1:]):
            self.say(f"trying {precision}", 0, len(units))
            chosen = narrowed(self.bench, chosen, units, precision, one_kind=self.target.max_kinds == 2, enough=quality)
        return kept_for_a_reason(self.bench, chosen, self.judge)

    def _best_known(self) -> Choice:
        """The best choice that was measured: it holds the budget, or comes nearest to it."""
        known = [(self.bench.tried[k], f) for k, f in self.bench.known.items() if k in self.bench.tried]
        fits = [(c, f) for c, f in known if self._fits(c.key)] or known
        if not fits:
            return self.given
        if self.judge.budget.asks_quality:
            good = [(f.high, c.key, c) for c, f in fits if self.judge.enough(f)]
            return min(good)[2] if good else max(fits, key=lambda x: self.judge.reached(x[1]))[0]
        return min(fits, key=lambda x: (x[1].damage, x[0].key))[0]

    def _result(self, question: dict[str, Any], front: Frontier, chosen: Choice, feasible: bool) -> SearchResult:
        bench = self.bench
        bench.effort.reserve = 0.0
        why = reasons(bench, chosen)
        costs = self._costs(front.start) if chosen.layers else self.times
        figures = bench.figures(chosen)
        biases, rounded = bench.biases(chosen), {n: bench.rounded[n] for n in bench.together(chosen)}
        layers = {n: chosen.layers[n] for n in why}
        warnings = self.judge.lost_slices(figures, feasible)
        outcome = Outcome(chosen, feasible, layers, why, warnings)
        made = finished(content(bench, question, self.times), front, self.judge.budget, outcome, costs)
        separate = bench.calibrated.separate
        return SearchResult(
            feasible, layers, chosen.tuning, biases, rounded, why, figures, made, separate, tuple(warnings)
        )
