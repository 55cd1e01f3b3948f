"""Whether choices judged on held-out samples rank better than those judged on the samples they were fitted on (ADR 11).

    python bench/folds.py --zoo ../shared/zoo --only vww squeezenet [--folds 4]

A choice here is a start of the search: a repair of weights and biases, and a set of other ranges. *Fitted*: everything
is worked out on all calibration samples, and the start with least damage on them wins. *Folds*: ranges, rounded weights
and biases are worked out without one fold, damage is measured on that fold; the start with the least damage over all
folds wins, and is then worked out on all samples. Both winners, and the best there is, are measured on the evaluation
samples. Damage counts relative to the model with all layers in 8 bits, with the layers raised that the start raises.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from subjects import Subject, asked, asking

import hybridq
from hybridq.graph.runtime import Feed, session
from hybridq.plan.share_of_macs import high_fraction, share_of_macs
from hybridq.quant.dtypes import Precision
from hybridq.search.allocation.additive_noise import pairs
from hybridq.search.allocation.frontier import Frontier
from hybridq.search.choice import Choice, Tuning, unrepaired
from hybridq.search.measuring.damage import measure_reference, objective, one_row
from hybridq.search.measuring.joint import Bench
from hybridq.search.measuring.quantizers import sources
from hybridq.search.tuning.alternatives import alternatives, of_sources, prepare, repairs
from hybridq.search.tuning.starts import STEPS
from hybridq.storage.state import State, assemble

ALONE = 8  # samples on which quantizers are measured alone
LIMIT = 0.15  # of the MACs above 8 bits

Label = tuple[int, float]  # number of the repair, step of the ranges
Choices = Mapping[Label, Choice]


def calibrated(subject: Subject, feeds: Sequence[Feed]) -> State:
    with tempfile.TemporaryDirectory() as folder:
        made = hybridq.step1(subject.path, list(feeds), folder, threads=1, every_algorithm=True)
        return made.state


def bench_of(state: State, feeds: Sequence[Feed]) -> Bench:
    one = session(assemble(state.model.proto, state.weights.plain()), threads=1)
    reference = measure_reference(one, feeds, state.model)
    return Bench(state.model, state.weights.plain(), unrepaired(state.calibrated), reference)


def starts(bench: Bench) -> Choices:
    """Every start with the layers that the additive model raises with it, worked out on the bench's samples."""
    prepare(bench, Tuning())
    samples = range(min(ALONE, len(bench.reference.feeds)))
    plan, weights = bench.plan(Choice())
    found = sources(bench.model, plan, weights)
    damage = bench.damages([s.forms for s in found], samples)
    known = alternatives(bench, of_sources(found, damage.tolist()), samples)
    cost = {g.name: share_of_macs(bench.model, g.layers) for g in bench.model.groups}
    made = {}
    for number, repair in enumerate(repairs(bench, known)):
        for step in (0.0, *STEPS):
            tuning = replace(repair, ranges=known.clear(known.ranges, step))
            shares = np.array([known.share(s, tuning) for s in found])
            terms = pairs(bench.model, plan, found, damage * shares, cost)
            front = Frontier(bench, Choice({}, tuning), terms, high_fraction(bench.model, plan), Precision.FLOAT32)
            made[number, step] = front.choice(front.at(LIMIT).raised)
    return made


def damages(bench: Bench, choices: Choices, feeds: Sequence[Feed]) -> dict[Label, float]:
    """Damage of each choice on samples, 1 for the model with all layers in 8 bits."""
    one = session(assemble(bench.model.proto, bench.weights), threads=1)
    reference = measure_reference(one, feeds, bench.model)

    def noise(choice: Choice) -> np.ndarray:
        run = session(bench.build(choice), threads=1).run
        outputs = [run(list(reference.names), dict(f)) for f in feeds]
        return np.stack([reference.noise(i, [one_row(x) for x in o])[0] for i, o in enumerate(outputs)])

    start = noise(Choice())
    aim = objective(reference, start)

    def damage(rows: np.ndarray) -> float:
        return float(sum(aim.of(i, row[None])[0] for i, row in enumerate(rows)))

    whole = max(damage(start), 1e-30)
    seen: dict[str, float] = {}
    for choice in choices.values():
        if choice.key not in seen:
            seen[choice.key] = damage(noise(choice)) / whole
    return {label: seen[choice.key] for label, choice in choices.items()}


def by_folds(subject: Subject, folds: int) -> dict[Label, float]:
    """Damage on samples that nothing was fitted on, the mean over the folds."""
    feeds, total = list(subject.calibration), dict[Label, float]()
    for fold in range(folds):
        rest = [f for i, f in enumerate(feeds) if i % folds != fold]
        bench = bench_of(calibrated(subject, rest), rest)
        for label, damage in damages(bench, starts(bench), feeds[fold::folds]).items():
            total[label] = total.get(label, 0.0) + damage / folds
    return total


def told(subject: Subject, folds: int) -> str:
    held = by_folds(subject, folds)
    feeds = list(subject.calibration)
    bench = bench_of(calibrated(subject, feeds), feeds)
    choices = starts(bench)
    fitted, truth = damages(bench, choices, feeds), damages(bench, choices, subject.evaluation)
    labels = sorted(choices)
    ranks = {
        name: np.corrcoef(*(np.argsort(np.argsort([x[n] for n in labels])) for x in (found, truth)))[0, 1]
        for name, found in (("fitted", fitted), ("folds", held))
    }
    best = {name: min(labels, key=lambda n: found[n]) for name, found in (("fitted", fitted), ("folds", held))}
    parts = [f"{name} {truth[best[name]]:.3f} (rank correlation {ranks[name]:.2f})" for name in best]
    return f"{subject.name:20} {len(feeds)} samples: {', '.join(parts)}, best there is {min(truth.values()):.3f}"


def main() -> None:
    parser = asking(__doc__)
    parser.add_argument("--folds", type=int, default=4)
    args = parser.parse_args()
    for subject in asked(args):
        print(told(subject, args.folds), flush=True)


if __name__ == "__main__":
    main()
