"""``auto`` at its default budget: processor time, share of the MACs above 8 bits, and scores on samples it never saw.

    python bench/search.py --zoo ../shared/zoo --only yunet
    python bench/search.py --kinds FOLDER            # of train_kinds.py
    python bench/search.py --yolo 320 640            # 230 layers, random weights: time alone

The limit beside the time is what the search promises: a minute, or 1,000 float inferences of one sample.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
from subjects import Subject, asked, asking

import hybridq
from hybridq.graph import runtime
from hybridq.search.work import USUAL_RUNS, USUAL_SECONDS

SAMPLES = 16  # of noise, for models without data


def run_time(path: Path, feed: dict[str, Any]) -> float:
    """Processor seconds of one float inference."""
    one = runtime.session(path, threads=1)
    runtime.run(one, feed)
    began = time.process_time()
    for _ in range(5):
        runtime.run(one, feed)
    return (time.process_time() - began) / 5


def searched(path: Path, feeds: Sequence[dict[str, Any]], out: Path) -> str:
    """Search, and say what it took."""
    limit = max(USUAL_SECONDS, USUAL_RUNS * run_time(path, feeds[0]))
    began = sum(os.times()[:4])
    made = hybridq.auto(path, list(feeds), out, threads=1)
    took, layers = sum(os.times()[:4]) - began, len(made.calibrated.state.model.layers)
    chosen = made.found.content["chosen"]
    return (
        f"{took:.0f} CPU s of {limit:.0f}, {layers} layers, {len(chosen['layers'])} raised, "
        f"{chosen['high_fraction']:.3f} of the MACs, damage {made.found.content['all_8bit']['damage']:.4f} -> "
        f"{chosen['damage']:.4f}"
    )


def of_subject(subject: Subject, folder: Path) -> None:
    told = searched(subject.path, subject.calibration, folder / subject.name)
    print(f"{subject.name:24} {told}; {subject.figures(folder / subject.name / 'hybrid.onnx')}", flush=True)


def of_yolo(size: int, folder: Path) -> None:
    path, random = folder / f"yolo{size}.onnx", np.random.default_rng(0)
    onnx.save(models.silu_yolo(size, depth=2), path)
    feeds = [{"images": random.random((1, 3, size, size), np.float32)} for _ in range(SAMPLES)]
    print(f"yolo{size:<20} {searched(path, feeds, folder / str(size))}", flush=True)


def main() -> None:
    parser = asking(__doc__)
    parser.add_argument("--yolo", type=int, nargs="*", default=[])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for subject in asked(args):
            of_subject(subject, Path(folder))
        for size in args.yolo:
            of_yolo(size, Path(folder))


if __name__ == "__main__":
    main()
