"""``auto`` at its default budget: processor time, share of the MACs above 8 bits, and scores on samples it never saw.

    python bench/search.py --zoo ../shared/zoo --only yunet
    python bench/search.py --kinds FOLDER            # of train_kinds.py
    python bench/search.py --yolo 320 640            # 230 layers, random weights: time alone
    python bench/search.py --zoo ../shared/zoo --yolo 320 640 --write    # and put it into docs/search.md's table

The limit beside the time is what the search promises: a minute, or 1,000 float inferences of one sample.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
from subjects import Subject, asked, asking

import hybridq
from hybridq.graph import runtime
from hybridq.graph.runtime import Feed
from hybridq.search.work import USUAL_RUNS, USUAL_SECONDS

SAMPLES = 16  # of noise, for models without data
DOCUMENT = Path(__file__).parent.parent / "docs" / "search.md"
HEAD = "| | CPU s | raised | score | around its threshold | dB, worst sample |\n|---|---|---|---|---|---|\n"


def run_time(path: Path, feed: Feed) -> float:
    """Processor seconds of one float inference."""
    one = runtime.session(path, threads=1)
    runtime.run(one, feed)
    began = time.process_time()
    for _ in range(5):
        runtime.run(one, feed)
    return (time.process_time() - began) / 5


@dataclass(frozen=True)
class Row:
    """One search: what it took, what it was allowed, what it found, and the figures of the model it built."""

    name: str
    seconds: float
    limit: float
    layers: int
    content: dict[str, Any]
    figures: dict[str, float]

    @property
    def said(self) -> str:
        """A line for whoever waits."""
        chosen, damage = self.content["chosen"], self.content["all_8bit"]["damage"]
        return (
            f"{self.name:24} {self.seconds:.0f} CPU s of {self.limit:.0f}, {self.layers} layers, "
            f"{len(chosen['layers'])} raised, {chosen['high_fraction']:.3f} of the MACs, damage {damage:.4f} -> "
            f"{chosen['damage']:.4f}; {self.figures}"
        )

    @property
    def cells(self) -> str:
        """A row of the table."""
        chosen, found = self.content["chosen"], self.figures
        count = len(chosen["layers"])
        raised = f"{count} layers, {_short(chosen['high_fraction'])}" if count else "none: the default is enough"
        score, around = (_short(found[k]) if k in found else "" for k in ("score", "around"))
        db = f"{found['db']:.1f}, {found['worst_db']:.1f}" if "db" in found else ""
        return f"| {self.name} | {self.seconds:.0f} of {self.limit:.0f} | {raised} | {score} | {around} | {db} |"


def _short(value: float) -> str:
    """Three digits behind the point, and none before it that says nothing; one digit of what is large."""
    return f"{value:.3f}".lstrip("0").rstrip("0").rstrip(".") or "0" if value < 1 else f"{value:.1f}".removesuffix(".0")


def searched(name: str, path: Path, feeds: Sequence[Feed], out: Path) -> Row:
    """Search, and say what it took."""
    limit = max(USUAL_SECONDS, USUAL_RUNS * run_time(path, feeds[0]))
    began = sum(os.times()[:4])
    made = hybridq.auto(path, list(feeds), out, threads=1)
    took, layers = sum(os.times()[:4]) - began, len(made.calibrated.state.model.layers)
    return Row(name, took, limit, layers, dict(made.found.content), {})


def of_subject(subject: Subject, folder: Path) -> Row:
    row = searched(subject.name, subject.path, subject.calibration, folder / subject.name)
    return replace(row, figures=subject.figures(folder / subject.name / "hybrid.onnx"))


def of_yolo(size: int, folder: Path) -> Row:
    path, random = folder / f"yolo{size}.onnx", np.random.default_rng(0)
    onnx.save(models.silu_yolo(size, depth=2), path)
    feeds: list[Feed] = [{"images": random.random((1, 3, size, size), np.float32)} for _ in range(SAMPLES)]
    return searched(f"YOLO, random weights, {size} x {size}", path, feeds, folder / str(size))


def written(rows: Sequence[Row]) -> None:
    """Put rows into the document's table, in place of those of the same names."""
    before, head, rest = DOCUMENT.read_text(encoding="utf-8").partition(HEAD)
    old, gap, after = rest.partition("\n\n")
    table = {line.split("|")[1].strip(): line for line in old.splitlines()} | {r.name: r.cells for r in rows}
    DOCUMENT.write_text(before + head + "\n".join(table.values()) + gap + after, encoding="utf-8")


def main() -> None:
    parser = asking(__doc__)
    parser.add_argument("--yolo", type=int, nargs="*", default=[])
    parser.add_argument("--write", action="store_true", help="put what is found into docs/search.md")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        subjects = (of_subject(subject, Path(folder)) for subject in asked(args))
        for row in chain(subjects, (of_yolo(size, Path(folder)) for size in args.yolo)):
            print(row.said, flush=True)
            rows.append(row)
    if args.write:
        written(rows)


if __name__ == "__main__":
    main()
