"""Calibration of recurrent models: samples as steps of sequences against the same samples as pictures, and inference.

    python bench/steps.py FOLDER ...        folders of train_streams.py, each with model.onnx and calibration.npy

*inference* is the model run step by step in a bare loop that hands the states on; *calibration* times are over it, for
steps and for pictures: the same model without states that go round, each sample with those that it was fed. Processor
times, the least of a few rounds, one thread; neither side counts the making of its session.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hybridq.calibration.calibrate import _session, measure_with, prepare
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import session
from hybridq.steps import prepare as given
from hybridq.steps.options.step1 import Step1Options

ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    """The least that it takes."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def main(folder: Path) -> None:
    made = given.prepare(folder / "model.onnx", (), (), Step1Options().goal)
    model, states = made.model, made.model.states
    (name,) = (n for n in model.inputs if n not in states)
    start = {n: np.zeros([int(d) for d in model.tensors[n].shape or ()], np.float32) for n in states}
    sequences = np.load(folder / "calibration.npy")
    steps = [{name: x, **(start if t == 0 else {})} for sequence in sequences for t, x in enumerate(sequence)]
    one = session(folder / "model.onnx", threads=1)
    rolled, whole = Rolled(one, states), []
    for feed in steps:
        whole.append(dict(rolled.whole(feed)))
        rolled.run(feed)
    outputs = [output.name for output in one.get_outputs()]

    def inference() -> None:
        held = {}
        for feed in steps:
            found = dict(zip(outputs, one.run(outputs, {**held, **feed}), strict=True))
            held = {n: found[output] for n, output in states.items()}

    program = prepare(model, made.proto, histogram=True)
    pictures = replace(program, states={})
    many, single = _session(program, 1), _session(pictures, 1)
    plain = seconds(inference)
    as_steps = seconds(lambda: measure_with(program, many, enumerate(steps))) / plain
    as_pictures = seconds(lambda: measure_with(pictures, single, enumerate(whole))) / plain
    each = plain / len(steps) * 1e6
    print(f"{folder.name:12} inference {each:5.1f} us; calibration {as_steps:.2f} times, as pictures {as_pictures:.2f}")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        main(Path(path))
