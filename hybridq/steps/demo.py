"""The demo: the three steps on a bundled detector and bundled pictures; float32, all-uint8 and hybrid side by side.

Everything is asked in uint8 here, as an NPU would have it. On its default settings hybridq leaves the detector's last
two layers in float32 by itself, since on a CPU that costs nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from hybridq import demo
from hybridq.compare.timing import time_pairs
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.place import need_folder
from hybridq.graph import runtime
from hybridq.steps.common import HYBRID
from hybridq.steps.editing import set_precision
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2
from hybridq.steps.step3 import step3

RAISED = ("/decode/Mul", "detections")  # the layers that write box positions and scores into one tensor
ALL_UINT8 = "all-uint8.onnx"
REPORT = "build/report/index.html"  # within the demo's folder
NAMES = ("float32", "all uint8", "hybrid")

Say = Callable[[Any], None]


def _silent(_: Any) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class DemoRow:
    """One model of the demo's table. ``speed``: CPU time of the float32 model it was made from over its own."""

    name: str
    path: Path
    ap50: float
    f1: float
    speed: float


@dataclass(frozen=True, slots=True)
class _Work:
    """One detector's way through the steps, and who is told of it."""

    model: Path
    folder: Path
    lists: tuple[Path, Path]
    say: Say
    threads: int
    progress: Progress

    @property
    def models(self) -> tuple[Path, Path, Path]:
        """Float32, all uint8, hybrid."""
        return self.model, self.folder.parent / ALL_UINT8, self.folder / HYBRID


def run_demo(
    out: Path | str = "hybridq-demo", *, say: Say = _silent, threads: int = 0, progress: Progress = no_progress
) -> list[DemoRow]:
    """Run the whole flow in ``out`` and tell ``say`` what happens; returns the table's rows.

    The first three are the small detector's (float32, all uint8, hybrid), the next three the plain one's.
    """
    out = Path(out)
    need_folder(out)
    lists = demo.write_dataset(out / "data")
    (out / "plain").mkdir(exist_ok=True)
    small = _Work(out / "detector.onnx", out / "build", lists, say, threads, progress)
    plain = _Work(out / "plain" / "detector.onnx", out / "plain" / "build", lists, _silent, threads, progress)
    shutil.copyfile(demo.model_path(), small.model)
    shutil.copyfile(demo.plain_path(), plain.model)
    say("A detector of handwritten digits: boxes in pixels (0..320) and scores (0..1) leave it in one tensor.\n")
    _build(small)
    say(f"$ hybridq step3 {small.folder} --dataset {lists[1]}")
    compared = step3(small.folder, lists[1], threads=threads, layer_samples=2, seconds=0.5, progress=progress)
    say(f"  report: {compared.folder / 'index.html'}\n")
    say(f"The same steps for a larger one of plain 3x3 convolutions, which 8 bits make fast: {plain.folder.parent}\n")
    _build(plain)
    progress("scoring", 0, None)
    rows = [_row(name, path, small) for name, path in zip(NAMES, small.models, strict=True)]
    rows += [_row(f"plain, {name}", path, plain) for name, path in zip(NAMES, plain.models, strict=True)]
    say(_table(rows))
    return rows


def _build(work: _Work) -> None:
    """Step1 in uint8, step2, two edits, step2: both quantized models are there."""
    folder, say = work.folder, work.say
    say(f"$ hybridq step1 {work.model} --dataset {work.lists[0]} --mean 127.5 --std 64 --dtype uint8 -o {folder}")
    entering: dict[str, Any] = {"mean": demo.MEAN, "std": demo.STD, "dtype": "uint8", "force": True}
    shared: dict[str, Any] = {"threads": work.threads, "progress": work.progress}
    found = step1(work.model, work.lists[0], folder, **entering, **shared)
    say(f"  {len(found.state.model.layers)} layers calibrated on {found.state.samples} pictures\n")
    say(f"$ hybridq step2 {folder}")
    step2(folder, **shared)
    shutil.copyfile(folder / HYBRID, work.models[1])
    say("  every layer in uint8\n")
    for name in RAISED:
        say(f"$ hybridq set {folder} {name} float32")
        set_precision(folder, name, "float32")
    say(f"$ hybridq step2 {folder}")
    built = step2(folder, **shared)
    say(f"  2 layers in float32, {built.report.high_fraction:.2%} of the multiply-accumulates\n")


def _row(name: str, path: Path, work: _Work) -> DemoRow:
    """Score a model on pictures that neither training nor calibration saw."""
    session = runtime.session(path, threads=1)
    names = [o.name for o in session.get_outputs()]
    pairs = demo.evaluation()
    outputs = [dict(zip(names, runtime.run(session, feed), strict=True)) for feed, _ in pairs]
    figures = demo.score(outputs)
    return DemoRow(name, path, figures["ap50"], figures["f1"], _speed(session, pairs[0][0], work))


def _speed(session: runtime.Session, feed: Any, work: _Work) -> float:
    """Float32's CPU time over that of a session of one thread."""
    reference = runtime.session(work.model, threads=1)
    return time_pairs(reference, session, feed, seconds=0.5, threads=1, clock=time.process_time).speedup


def _table(rows: list[DemoRow]) -> Table:
    table = Table(
        "model", "AP50", "F1", "size", "speed", title="160 pictures that neither training nor calibration saw"
    )
    for i, row in enumerate(rows):
        size = f"{row.path.stat().st_size / 1e3:.0f} kB"
        figures = (f"{row.ap50:.3f}", f"{row.f1:.3f}", size, f"{row.speed:.2f}x float32")
        table.add_row(row.name, *figures, end_section=i == len(NAMES) - 1)
    return table
