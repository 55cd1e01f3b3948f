"""The best mix that a long search by hand finds, knowing the samples it is judged on, beside what ``auto`` finds.

    python bench/best_mix.py --zoo ../shared/zoo --only vww [--rounds 3]

By hand: from the default of step1, each group of layers in turn is raised, exchanged for another or put back, whichever
brings the worst output's SQNR on the *evaluation* samples furthest, within the same share of the MACs as ``auto``, as
long as anything helps. It takes hours where ``auto`` takes a minute, and is a little lucky by construction; it says how
far ``auto`` stays behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from subjects import Subject, asked, asking

import hybridq
from hybridq.build.builder import build
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.share_of_macs import high_fraction
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerChoice, QuantConfig
from hybridq.search.budget import USUAL_HIGH
from hybridq.storage.state import State

Groups = frozenset[str]
ENOUGH = 0.02  # dB that a step must bring


class Hand:
    """Mixes of one calibrated model, measured on the evaluation samples."""

    def __init__(self, subject: Subject, state: State, folder: Path) -> None:
        self.subject, self.state, self.path = subject, state, folder / "mix.onnx"
        layers = state.model.layer
        self.groups = [g.name for g in state.model.groups if any(not layers[n].float_only for n in g.layers)]
        self.known: dict[Groups, float] = {}
        self.most = max(USUAL_HIGH, self.share(frozenset()))  # what starts in float is no choice

    def db(self, raised: Groups) -> float:
        """What the evaluation samples say, in dB; minus infinity where the share of the MACs is too high."""
        if raised not in self.known:
            self.known[raised] = self.measured(raised)
        return self.known[raised]

    def plan(self, raised: Groups) -> QuantPlan:
        """The plan of a mix."""
        state = self.state
        layers = {n: LayerChoice(Precision.FLOAT32) for g in raised for n in state.model.group[g].layers}
        config = QuantConfig(state.calibrated.target, layers, state.calibrated.entries, {})
        return make_plan(state.model, state.calibrated, config, state.weights)

    def share(self, raised: Groups) -> float:
        """Of the MACs above 8 bits."""
        return high_fraction(self.state.model, self.plan(raised))

    def measured(self, raised: Groups) -> float:
        """Build a mix and run it."""
        if self.share(raised) > self.most:
            return float("-inf")
        build(self.state.model, self.plan(raised), self.state.weights).write(self.path)
        return self.subject.figures(self.path)["db"]

    def climbed(self, rounds: int) -> Groups:
        """Steps that bring most, one after the other; ``rounds`` times over all groups at most."""
        raised: Groups = frozenset()
        for _ in range(rounds * len(self.groups)):
            best = max(self._steps(raised), key=lambda r: (self.db(r), sorted(r)), default=raised)
            if self.db(best) < self.db(raised) + ENOUGH:
                break
            raised = best
            print(f"    {self.db(raised):.2f} dB, {len(raised)} groups raised", flush=True)
        return raised

    def _steps(self, raised: Groups) -> Iterator[Groups]:
        more = [raised | {g} for g in self.groups if g not in raised]
        yield from more
        yield from (raised - {g} for g in raised)
        if all(self.db(r) == float("-inf") for r in more):  # full: exchange
            yield from (r - {g} for r in more for g in raised)


def told(subject: Subject, folder: Path, rounds: int) -> None:
    made = hybridq.step1(subject.path, list(subject.calibration), folder / "hand", threads=1)
    hand = Hand(subject, made.state, folder)
    hand.db(hand.climbed(rounds))
    best = max(hand.known, key=lambda r: hand.known[r])
    hand.measured(best)
    by_hand = subject.figures(hand.path)
    hybridq.auto(subject.path, list(subject.calibration), folder / "auto", threads=1)
    by_auto = subject.figures(folder / "auto" / "hybrid.onnx")
    print(f"{subject.name}: by hand {by_hand} ({len(hand.known)} mixes), auto {by_auto}", flush=True)


def main() -> None:
    parser = asking(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for subject in asked(args):
        with tempfile.TemporaryDirectory() as folder:
            told(subject, Path(folder), args.rounds)


if __name__ == "__main__":
    main()
