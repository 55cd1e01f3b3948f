"""Step3's layer analysis against running both models once over the same samples, by zoo model. Prints ratios.

    python bench/comparison.py --zoo ../shared/zoo --only yunet pfld
    python bench/comparison.py --zoo ../shared/zoo --only yunet --samples 64      its memory grows with no sample

Times are processor times of alternating rounds in one process, one thread, medians of the ratios. *analysis* is what
the samples cost, *whole* counts the making of the sessions, too. The models are step1's with weights as they are given.
On a machine that others use the analysis suffers more than the models do: its tensors share the cache with theirs.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from subjects import Subject, asked, asking

import hybridq
from hybridq.compare import Inside, layer_pairs
from hybridq.compare.shards import Models, let_go, measure_layers, shards
from hybridq.execution.shared import Here
from hybridq.graph import runtime
from hybridq.graph.load import load
from hybridq.steps.common import read_state
from hybridq.steps.step3 import _ranges
from hybridq.storage.state import assemble

GOAL = 4.0


def models_of(subject: Subject, folder: Path) -> Models:
    """The float and the hybrid model that step1 and step2 make by default, but without repaired weights."""
    if not (folder / "hybrid.onnx").exists():
        hybridq.step1(subject.path, list(subject.calibration)[:8], folder, threads=1, weights_repair="none")
        hybridq.step2(folder)
    state = read_state(folder)
    hybrid = load(folder / "hybrid.onnx")
    inside = Inside(layer_pairs(state.model, hybrid), _ranges(state, hybrid))
    return Models(assemble(state.model.proto, state.weights), hybrid, {}, inside)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def analysed(models: Models, feeds: list[runtime.Feed]) -> None:
    """As step3 does it: the first shard's histograms choose the ends of all."""
    ends = None
    for shard in shards([(feed, feed) for feed in feeds]):
        sums = measure_layers(Here(models), shard, ends, 1)
        ends = sums.spread.ends if ends is None else ends


def compare(subject: Subject, models: Models, samples: int, rounds: int) -> None:
    feeds = [subject.calibration[i % len(subject.calibration)] for i in range(samples)]
    both = [runtime.session(proto, threads=1) for proto in (models.reference, models.hybrid)]
    let_go()
    opening = seconds(lambda: analysed(models, feeds[:1])) - seconds(lambda: analysed(models, feeds[:1]))
    taken = [
        (
            seconds(lambda: [runtime.run(one, x) for x in feeds for one in both]),
            seconds(lambda: analysed(models, feeds)),
        )
        for _ in range(rounds + 1)
    ][1:]
    ratio, whole = (statistics.median((b + more) / a for a, b in taken) for more in (0.0, opening))
    plain = statistics.median(a for a, _ in taken) / samples * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    verdict = "reached" if ratio <= GOAL else "missed"
    told = f"both {plain:6.2f} ms, analysis {ratio:5.2f} times ({verdict}), whole {whole:5.2f}, {peak:.0f} MB"
    print(f"{subject.name:20} {told}", flush=True)


def main() -> None:
    parser = asking(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for subject in asked(args):
            compare(subject, models_of(subject, Path(folder) / subject.name), args.samples, args.rounds)


if __name__ == "__main__":
    main()
