"""Which metric counts as the task does: by what the outputs are, as the last layers, shapes and figures tell."""

from __future__ import annotations

from collections.abc import Iterator

from hybridq.compare import ComparisonReport, OutputReport
from hybridq.graph.operators import BatchRows, Operator, lookup
from hybridq.report.advice import Action
from hybridq.report.again import comparing
from hybridq.report.known import Known

BEARABLE_DB = 15.0  # of an output's worst slice: some tasks bear it
CORNERS = 4  # numbers of a box
MEAN_DB = 12.0  # what all samples share beside what varies: of scores it is less, else their order were always the same
BY_TASK = "judge by what the task counts"


def metric(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """Another measure, where decibels alone have judged."""
    worst = min((o.worst_sqnr_db for o in report.outputs), default=0.0)
    if report.metric is None and worst >= BEARABLE_DB:
        why, name = _fitting(report)
        command = comparing(known, "--metric", name) if name else ""
        yield Action("metric", f"{BY_TASK}: {why}", (), None, command, "decibels cannot say what your task bears")


def _fitting(report: ComparisonReport) -> tuple[str, str]:
    """Why, and the name of a metric; empty where only a person can say."""
    boxes = _boxes(report)
    if boxes:
        return "how many of float's boxes are found again", f"boxes:{boxes}"
    if len(report.outputs) != 1:
        return OWN, ""
    (only,) = report.outputs
    last = next((lookup(x.op) for x in report.layers if x.name == only.name), None)
    if only.equal is not None or (last and last.rows is BatchRows.AXIS and last.range is not None):
        return "how often both models choose the same class", "agreement"
    if last and _is_row(only, last):
        return (MEASURES, "") if _shared_db(only) >= MEAN_DB else (PERHAPS, "agreement")
    return OWN, ""


OWN = "step3 --metric takes names and functions of your own (hybridq step3 -h)"
MEASURES = (
    "how far these numbers, which vary little about a mean as coordinates do, are from the truth, by a function of "
    "your own (hybridq step3 -h)"
)
PERHAPS = (
    "where these numbers are scores of classes, how often both models choose the same class; else a function of your "
    "own (hybridq step3 -h)"
)


def _is_row(output: OutputReport, last: Operator) -> bool:
    """Whether it is a row of numbers a sample as a fully connected layer gives them."""
    return last.rows in (BatchRows.GEMM, BatchRows.MATMUL) and len(output.shape) == 2 and output.shape[1] > 1


def _shared_db(output: OutputReport) -> float:
    """Signal with what all samples share over what varies, in dB: the noise of both figures is the same."""
    return output.sqnr_db - output.centered_sqnr_db if output.centered_sqnr_db is not None else 0.0


def _boxes(report: ComparisonReport) -> str:
    """The layout of boxes that cannot be taken for another: a pair of outputs, or rows of which the first four join."""
    shapes = [o.shape for o in report.outputs if len(o.shape) == 3]
    if len(shapes) == len(report.outputs) == 2 and shapes[0][1] == shapes[1][1]:
        return "ssd" if [s[2] == CORNERS for s in shapes].count(True) == 1 else ""
    if len(shapes) == len(report.outputs) == 1:
        parts = [s for s in report.outputs[0].slices if s.axis == 1 and s.stop - s.start > 1]
        rows, count = shapes[0][1:]
        return "yolov8" if CORNERS < rows < count and any(s.stop == CORNERS for s in parts) else ""
    return ""
