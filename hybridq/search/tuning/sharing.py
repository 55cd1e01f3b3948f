"""Concats whose inputs get scales of their own, where that is clearly better.

In a row of joins all tensors have the widest one's scale; separate ones round finer, but what they join is rounded
twice, and the Concat is no longer a plain copy. So it is a move like any other, judged by what joint models measure;
of sets that do about as well, the smallest counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridq.graph.model import Model
from hybridq.plan.separate import may_separate, separate
from hybridq.quant.records import Calibrated
from hybridq.search.choice import Choice, Figures
from hybridq.search.measuring.joint import Bench

GAINS = (3.0, 1.5, 1.0)  # times the range of what a Concat joins that its result's has: sets of those that gain most
CLEAR = 0.95  # of the damage: separate Concats cost memory traffic, so they must bring that
ALIKE = 1.02  # times the least damage: what does no more is as good


def with_separate_concats(bench: Bench, given: Choice) -> Bench:
    """The bench with the separate Concats that serve ``given`` best; none where they bring little. Raises TimeUp."""
    shared = bench.measure(given)
    tried: list[tuple[Bench, Figures]] = []
    for names in _sets(bench.model, bench.calibrated):
        one = bench.separated(names)
        tried.append((one, one.measure(given)))
        bench = bench.recalled(one.measured)
    better = [(b, f) for b, f in tried if f.clearly_better(shared, CLEAR) and f.doubt <= shared.doubt]
    least = min((f.damage for _, f in better), default=0.0)
    found = next((b for b, f in better if f.damage <= ALIKE * least), bench)
    return found.recalled(bench.measured)


def _sets(model: Model, calibrated: Calibrated) -> Iterator[list[str]]:
    """Nested sets of Concats, the smallest first."""
    names = may_separate(model, calibrated)
    if not names:
        return
    gains = dict(zip(names, _gains(*separate(model, calibrated, names), names), strict=True))
    sets = ([n for n in names if gains[n] >= least] for least in GAINS)
    yield from {len(s): s for s in sets if s}.values()


def _gains(model: Model, calibrated: Calibrated, names: tuple[str, ...]) -> Iterator[float]:
    """How many times the range of the narrowest of what it joins each Concat's result has."""
    for name in names:
        widths = [_width(model, calibrated, i) for i in model.layer[name].inputs]
        yield _width(model, calibrated, name) / max(min(widths), 1e-30)


def _width(model: Model, calibrated: Calibrated, tensor: str) -> float:
    r = calibrated.measured[model.group_of[tensor].name].range
    return r.max - r.min
