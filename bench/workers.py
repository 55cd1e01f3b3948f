"""How much faster two workers are than one: calibration, and a search's quantizers alone, by the clock.

    python bench/workers.py MODEL.onnx DATASET.txt [WORKERS]

Workers are warmed up before (they import hybridq and load the model); the best of three alternating rounds counts, on a
machine that has nothing else to do. Both results are the same bytes, which is looked at, too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hybridq import step1
from hybridq.dataset import Preprocessing, input_specs, open_dataset
from hybridq.execution.pool import HERE, Pool
from hybridq.execution.workers import Workers
from hybridq.graph.runtime import session
from hybridq.search.choice import Choice
from hybridq.search.measuring.damage import measure_reference
from hybridq.search.measuring.joint import Bench
from hybridq.search.measuring.quantizers import sources
from hybridq.steps.common import read_state
from hybridq.steps.one_pass import Pass
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.prepare import prepare
from hybridq.storage.state import assemble

ROUNDS = 3
SAMPLES = 8


def clock(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def sensitivity(folder: Path, dataset: str, pool: Pool) -> Callable[[], Any]:
    """Every quantizer of a model alone, on a few samples."""
    state = read_state(folder)
    data = open_dataset(dataset, input_specs(state.model), Preprocessing.from_json(state.preprocessing), SAMPLES)
    feeds = [sample.feed for sample in data]
    one = session(assemble(state.model.proto, state.weights.plain()), threads=1)
    reference = measure_reference(one, feeds, state.model)
    bench = Bench(state.model, state.weights.plain(), state.calibrated, reference, pool=HERE)
    bench.aim_of()
    variants = [s.forms for s in sources(state.model, *bench.plan(Choice()))]
    return lambda: replace(bench, pool=pool, alone={}, paid={}).damages(variants, range(len(feeds)))


def calibration(model: str, dataset: str, executor: Workers | None) -> Callable[[], Any]:
    """One pass over all samples."""
    options = Step1Options(threads=1)
    made = prepare(Path(model), (), (), options.goal)
    data = open_dataset(dataset, input_specs(made.model))
    return lambda: Pass(made, options, lambda *_: None, executor).over(data)[0]


def main(model: str, dataset: str, count: int) -> None:
    """Print both ratios."""
    with tempfile.TemporaryDirectory() as folder, Workers(count) as executor:
        step1(model, dataset, folder, threads=1, weights_repair="none")
        many = Pool(executor, count, 1)
        rows = {
            "sensitivity": [sensitivity(Path(folder), dataset, pool) for pool in (HERE, many)],
            "calibration": [calibration(model, dataset, workers) for workers in (None, executor)],
        }
        for name, (alone, together) in rows.items():
            together()  # warms up
            rounds = [(clock(alone), clock(together)) for _ in range(ROUNDS)]
            one, two = (min(r[i][0] for r in rounds) for i in (0, 1))
            same = np.array_equal(*(np.asarray(x[1]) for x in rounds[0])) if name == "sensitivity" else ""
            print(f"{name:12} {one:7.2f} s alone, {two:7.2f} s with {count}: {one / two:.2f} times  {same}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2)
