"""The steps of a search, in order.

1. What step1 left is measured: where it is good enough, nothing is raised and nothing else is done.
2. Every quantizer alone: its damage at the model outputs (``search.noise``, ``search.growing``).
3. What costs no bits: ranges by other algorithms, rounded weights, corrected biases (``search.tuning``).
4. Noise adds up, so a knapsack with pairs gives the Pareto front (``search.knapsack``).
5. The joint models are built and measured, and the best is repaired and trimmed (``search.trim``).
6. Precisions that are cheaper and do as well (``search.narrow``), and why each layer has what it has.

When the time is over the best choice that was measured is the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from hybridq.execution.progress import Progress
from hybridq.plan.share_of_macs import high_fraction, share_of_macs
from hybridq.quant.dtypes import Precision
from hybridq.search.board import board_times
from hybridq.search.budget import USUAL_HIGH
from hybridq.search.choice import Choice, Figures, Tuning
from hybridq.search.coarse import coarse_damages
from hybridq.search.costs import Times, measure_times
from hybridq.search.frontier import Candidate, Frontier
from hybridq.search.joint import Bench, TimeUp
from hybridq.search.judge import Judge
from hybridq.search.knapsack import NO_PAIRS
from hybridq.search.narrow import narrowed
from hybridq.search.noise import pairs, sources
from hybridq.search.polish import polished
from hybridq.search.reasons import kept_for_a_reason, reasons
from hybridq.search.result import content, finished
from hybridq.search.speed import SHARES, fast_enough
from hybridq.search.trim import cheapest_enough, improve, trim
from hybridq.search.tuning import Alternatives, of_sources, prepare, tuned
from hybridq.search.work import Work
from hybridq.targets import Target

MENDING = 0.05  # share of the MACs that may mend what is broken before ranges are tried
STARTS = 2  # of the starts that promise most are followed
MENDED = 0.3  # of the damage: what is left of it where something was broken

Units = tuple[str, ...]


@dataclass(frozen=True)
class SearchResult:
    """``content`` is what ``search.json`` holds; ``layers`` and ``tuning`` go into the cfg, ``reasons`` beside.

    ``biases`` and ``rounded`` are the corrected biases and the weights rounded together that the tuning uses, by layer;
    they count while a layer has 8 bits. ``feasible`` is false when the budget cannot be held; the choice is then the
    best that can be reached.
    """

    feasible: bool
    layers: Mapping[str, Precision]
    tuning: Tuning
    biases: Mapping[str, NDArray[Any]]
    rounded: Mapping[str, NDArray[Any]]
    reasons: Mapping[str, str]
    figures: Figures
    content: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...] = ()


@dataclass
class Engine:
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
        return self.judge.budget.high

    @property
    def _most(self) -> int | None:
        """How many units are tried to be taken back."""
        return self.work.trials // 4 if self.work.scarce else None

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
            front, units, feasible = self._search()
            chosen = self._narrowed(front, units)
        except TimeUp:
            chosen = self._best_known()
            front = self._empty(Choice({}, chosen.tuning))
            figures = self.bench.known.get(chosen.key)
            feasible = figures is not None and self.judge.holds(figures)
        return self._result(question, front, chosen, feasible)

    def _search(self) -> tuple[Frontier, Units, bool]:
        start = self.bench.measure(self.given)
        if self.judge.budget.min_speedup is None and (
            self.judge.settled(start) or (self.judge.budget.asks_quality and self.judge.holds(start))
        ):
            return self._empty(self.given), (), True
        self.say("rounding weights, correcting biases", 0, None)
        prepare(self.bench, self.given.tuning)
        samples = list(range(len(self.bench.reference.feeds)))[:: self._stride()][: self.work.alone]
        plain = self._frontier(Choice(), samples)
        starts, self.found = tuned(
            self.bench,
            self.given.tuning,
            self.alone,
            samples,
            self._mended(plain),
            scarce=self.work.scarce,
        )
        fronts = sorted((self._frontier(s, samples) for s in starts), key=self._promise)
        if self.judge.budget.min_speedup is not None or self.judge.budget.asks_quality or self.work.scarce:
            return (fronts[0], *self._choose(fronts[0]))
        made = [(f, *self._choose(f)) for f in fronts[:STARTS]]
        return min(made, key=lambda m: m[0].judged(m[1]))

    def _stride(self) -> int:
        """Samples that quantizers are measured on are spread over all."""
        return max(1, len(self.bench.reference.feeds) // self.work.alone)

    def _mended(self, front: Frontier) -> dict[str, Precision]:
        """The few cheap layers whose bits take off most of the damage, if there are such."""
        choice = front.choice(front.at(min(self.limit, MENDING)).raised)
        broken = self.bench.measure(choice).damage < MENDED * self.bench.measure(Choice()).damage
        return dict(choice.layers) if broken else {}

    def _promise(self, front: Frontier) -> float:
        """The least damage that a start reaches within the budget, by a first look."""
        shares = [x * min(self.limit, 2 * USUAL_HIGH) for x in (1.0, 0.67, 0.33)]
        looks = [front.choice(front.at(share).raised) for share in shares]
        return min(f.damage for f in self.bench.measure_all(looks))

    def _frontier(self, start: Choice, samples: list[int]) -> Frontier:
        bench = self.bench
        plan, weights = bench.plan(start)
        found = sources(bench.model, plan, weights)
        if self.work.scarce:
            damage = coarse_damages(bench, plan, weights, found, samples)
        else:
            damage = bench.damages([s.forms for s in found], samples)
        if start.tuning == Tuning():
            self.alone = of_sources(found, damage.tolist())
        cost = {g.name: share_of_macs(bench.model, g.layers) for g in bench.model.groups}
        made = pairs(bench.model, plan, found, damage, cost)
        return Frontier(bench, start, made, high_fraction(bench.model, plan), self.precisions[0])

    def _empty(self, start: Choice) -> Frontier:
        """A front without anything to raise."""
        return Frontier(self.bench, start, NO_PAIRS, 0.0, self.precisions[0])

    def _choose(self, front: Frontier) -> tuple[Units, bool]:
        """Units to raise, and whether the budget holds."""
        if self.judge.budget.min_speedup is not None:
            return self._fast(front)
        candidates = [*front.within(self.limit, self.work.trials // 3), *self._remedies(front)]
        self.bench.measure_all([front.choice(c.raised) for c in candidates])
        if self.judge.budget.asks_quality:
            return self._good_enough(front, candidates)
        best = min(candidates, key=lambda c: (front.judged(c.raised), c.high))
        units = improve(front, best.raised, self.limit, self.work.trials // 12)
        units = self._settled(front, candidates, trim(front, units, most=self._most))
        high = self.bench.measure(front.choice(units)).high
        allowed = max(self.limit, front.base_high) if self.judge.budget.asks_nothing else self.limit
        return units, high <= allowed + 1e-12  # what must stay float is no choice

    def _settled(self, front: Frontier, candidates: list[Candidate], units: Units) -> Units:
        """No more than it takes to give float's own answers, where those are reached."""
        if not self.judge.settled(self.bench.measure(front.choice(units))):
            return units
        sorted_candidates = sorted([*candidates, front.candidate_of(units)], key=lambda c: (c.high, c.damage))
        least = cheapest_enough(front, sorted_candidates, self.judge.settled)
        return trim(front, least, self.judge.settled, self._most) if least is not None else units

    def _remedies(self, front: Frontier) -> list[Candidate]:
        """What the lint advises: each remedy and all together, as far as they fit."""
        groups = [{self.bench.model.layer[n].group for n in r if n in self.bench.model.layer} for r in self.remedies]
        sets = [*groups, set().union(*groups)] if groups else []
        found = [front.candidate_of(sorted(s & set(front.pairs.units))) for s in sets]
        return [c for c in found if c.raised and c.high <= self.limit + 1e-12]

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
            return self._timed(start)
        return board_times(self.bench.model, self.target, self.precisions[0], self.board)

    def _timed(self, start: Choice) -> Times:
        if self.times is None:
            self.say("measuring times", 0, None)
            self.times = measure_times(self.bench, start, self.precisions[0], self.threads)
        return self.times

    def _good_enough(self, front: Frontier, candidates: list[Candidate]) -> tuple[Units, bool]:
        ordered = sorted(candidates, key=lambda c: (c.high, c.damage))
        units = cheapest_enough(front, ordered, self.judge.enough)
        if units is not None:
            return trim(front, units, self.judge.enough, self._most), True
        best = max(candidates, key=lambda c: self.judge.reached(self.bench.measure(front.choice(c.raised))))
        units = improve(front, best.raised, self.limit, self.work.trials // 12)
        return units, self.judge.enough(self.bench.measure(front.choice(units)))

    def _narrowed(self, front: Frontier, units: Units) -> Choice:
        chosen = front.choice(units)
        if self.judge.budget.min_speedup is not None:
            return chosen
        if not self.judge.budget.asks_quality and not self.judge.settled(self.bench.measure(chosen)):
            most = self.work.trials // 3
            chosen = polished(self.bench, chosen, self.found, self.alone, most)
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
        fits = [(c, f) for c, f in known if f.high <= self.limit + 1e-12] or known
        if not fits:
            return self.given
        if self.judge.budget.asks_quality:
            good = [(f.high, c.key, c) for c, f in fits if self.judge.enough(f)]
            return min(good)[2] if good else max(fits, key=lambda x: self.judge.reached(x[1]))[0]
        return min(fits, key=lambda x: (x[1].damage, x[0].key))[0]

    def _result(self, question: dict[str, Any], front: Frontier, chosen: Choice, feasible: bool) -> SearchResult:
        bench = self.bench
        why = reasons(bench, chosen)
        costs = self._costs(front.start) if chosen.layers else self.times
        figures = bench.figures(chosen)
        plan, _ = bench.plan(chosen)
        biases, rounded = bench.biases(chosen, plan), {n: bench.rounded[n] for n in bench.together(chosen)}
        layers = {n: chosen.layers[n] for n in why}
        warnings = self.judge.lost_slices(figures, feasible)
        found, budget = content(bench, question, self.times), self.judge.budget
        made = finished(found, front, chosen, layers, budget, feasible, why, costs, warnings)
        return SearchResult(feasible, layers, chosen.tuning, biases, rounded, why, figures, made, tuple(warnings))
