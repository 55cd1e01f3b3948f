"""The demo: the three steps on a bundled detector and bundled pictures; float32, all-uint8 and hybrid side by side.

Everything is asked in uint8 here, as an NPU would have it. On its default settings hybridq leaves the detector's last
two layers in float32 by itself, since on a CPU that costs nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from hybridq import demo
from hybridq.compare.timing import time_pairs
from hybridq.execution.progress import Progress, no_progress
from hybridq.graph import runtime
from hybridq.steps.common import HYBRID
from hybridq.steps.editing import set_precision
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2
from hybridq.steps.step3 import step3

RAISED = ("/decode/Mul", "detections")  # the layers that write box positions and scores into one tensor
ALL_UINT8 = "all-uint8.onnx"

Say = Callable[[Any], None]


def _silent(_: Any) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the demo's table."""

    name: str
    path: Path
    ap50: float
    f1: float
    speed: float


def run_demo(
    out: Path | str = "hybridq-demo", *, say: Say = _silent, threads: int = 0, progress: Progress = no_progress
) -> list[Row]:
    """Run the whole flow in ``out`` and tell ``say`` what happens; returns the table's rows."""
    out = Path(out)
    calibration, evaluation = demo.write_dataset(out / "data")
    model = out / "detector.onnx"
    shutil.copyfile(demo.model_path(), model)
    folder = out / "build"
    say("A detector of handwritten digits: boxes in pixels (0..320) and scores (0..1) leave it in one tensor.\n")
    say(f"$ hybridq step1 {model} --dataset {calibration} --mean 127.5 --std 64 --dtype uint8 -o {folder}")
    entering: dict[str, Any] = {"mean": demo.MEAN, "std": demo.STD, "dtype": "uint8", "force": True}
    found = step1(model, calibration, folder, **entering, threads=threads, progress=progress)
    say(f"  {len(found.state.model.layers)} layers calibrated on {found.state.samples} pictures\n")
    say(f"$ hybridq step2 {folder}")
    step2(folder, threads=threads, progress=progress)
    shutil.copyfile(folder / HYBRID, out / ALL_UINT8)
    say("  every layer in uint8\n")
    for name in RAISED:
        say(f"$ hybridq set {folder} {name} float32")
        set_precision(folder, name, "float32")
    say(f"$ hybridq step2 {folder}")
    built = step2(folder, threads=threads, progress=progress)
    say(f"  2 layers in float32, {built.report.high_fraction:.2%} of the multiply-accumulates\n")
    say(f"$ hybridq step3 {folder} --dataset {evaluation}")
    compared = step3(folder, evaluation, threads=threads, layer_samples=2, seconds=0.5, progress=progress)
    say(f"  report: {compared.folder / 'index.html'}\n")
    progress("scoring", 0, None)
    models = (("float32", model), ("all uint8", out / ALL_UINT8), ("hybrid", folder / HYBRID))
    rows = [_row(name, path, model, threads) for name, path in models]
    say(_table(rows))
    return rows


def _row(name: str, path: Path, reference: Path, threads: int) -> Row:
    """Score a model on pictures that neither training nor calibration saw."""
    session = runtime.session(path, threads=threads)
    names = [o.name for o in session.get_outputs()]
    pairs = demo.evaluation()
    outputs = [dict(zip(names, runtime.run(session, feed), strict=True)) for feed, _ in pairs]
    figures = demo.score(outputs)
    return Row(name, path, figures["ap50"], figures["f1"], _speed(session, reference, pairs[0][0], threads))


def _speed(session: runtime.Session, reference: Path, feed: Any, threads: int) -> float:
    return time_pairs(runtime.session(reference, threads=threads), session, feed, seconds=0.5, threads=threads).speedup


def _table(rows: list[Row]) -> Table:
    table = Table(
        "model", "AP50", "F1", "size", "speed", title="160 pictures that neither training nor calibration saw"
    )
    for row in rows:
        size = f"{row.path.stat().st_size / 1e3:.0f} kB"
        table.add_row(row.name, f"{row.ap50:.3f}", f"{row.f1:.3f}", size, f"{row.speed:.2f}x float32")
    return table
