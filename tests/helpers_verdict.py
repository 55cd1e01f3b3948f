"""Reports of given figures, for what is judged by them."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import qdq_models
from rich.console import Console

from hybridq.compare import ComparisonReport, Drift, Inside, LayerReport, Runs, compare
from hybridq.report import Known, judge, print_report

STORED = {"x": (-4.0, 4.0), "stem": (0.0, 12.0), "body": (-30.0, 30.0), "box": (-3000.0, 3000.0), "score": (-3.0, 3.0)}


FAR = Drift("t", "stem", 0.0, 1.0, -9.0, 9.0, 0.5, 8.0, True)


KNOWN = Known(folder="build", model="m.onnx", dataset="d.txt", algorithm="normal", flags=("--mean", "127.5"))


def _measured() -> ComparisonReport:
    model = qdq_models.two_heads()
    hybrid = qdq_models.quantized(model, STORED, ("stem.w", "body.w"))
    return compare(model, hybrid, qdq_models.samples(), inside=Inside(qdq_models.pairs()), runs=Runs(threads=1))


REPORT = _measured()


def with_output(whole: float, worst: float, cosine: float = 0.9, **more: Any) -> ComparisonReport:
    """The report with one float output of these figures."""
    output = REPORT.outputs[0]
    figures = dataclasses.replace(output.figures, sqnr_db=whole, cosine=cosine)
    changed = dataclasses.replace(output, sqnr_db=whole, worst_sqnr_db=worst, figures=figures, centered_sqnr_db=None)
    return dataclasses.replace(REPORT, outputs=(changed,), **{"warnings": (), **more})


def even(least: float) -> tuple[LayerReport, ...]:
    """Layers in 8 bits of which none stands out."""
    return tuple(
        dataclasses.replace(x, precision="uint8", individual=dataclasses.replace(x.entire, sqnr_db=least + i))  # type: ignore[type-var]
        for i, x in enumerate(REPORT.layers)
    )


def printed(report: ComparisonReport, known: Known) -> list[str]:
    """What the terminal shows of a report, line by line."""
    text = io.StringIO()
    print_report(report, Console(file=text, width=240, color_system=None), judge(report, known))
    return text.getvalue().splitlines()
