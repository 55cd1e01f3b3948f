"""The float model, all 8 bits and this build side by side: accuracy, size, time, share of MACs above 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hybridq.compare import ComparisonReport
from hybridq.compare.timing import unsteady
from hybridq.report import words
from hybridq.report.known import Accuracy, Known

HERE = "these samples"
PC = "ONNX Runtime on this machine"
NOT_STEADY = "not steady"  # in place of a time


@dataclass(frozen=True, slots=True)
class Column:
    """One model. None: not known, or (SQNR of the float model) without meaning; SQNR in dB, time in ms, size in bytes.

    ``measured_on`` says where the accuracy is from: these samples or a search's. ``timed_on`` is what was timed, and
    ``board`` the target whose time that is not, empty where it is.
    """

    model: str
    accuracy: Accuracy
    size: int | None = None
    time_ms: float | None = None
    high_fraction: float | None = None
    measured_on: str = HERE
    timed_on: str = PC
    board: str = ""

    @property
    def head(self) -> str:
        """What stands above it; a mark leads to ``notes`` where its accuracy is not to be held against the others'."""
        return self.model if self.measured_on == HERE else f"{self.model} *"


def notes(columns: Sequence[Column]) -> list[str]:
    """What the marks in the heads say, and whose times these are where they are not the target's."""
    found = [f"* {c.model}: accuracy on {c.measured_on}" for c in columns if c.measured_on != HERE]
    boards = {c.board for c in columns if c.time_ms is not None and c.board}
    return [*found, *(f"PC time: {PC}; {board} takes its own" for board in sorted(boards))]


def side_by_side(report: ComparisonReport, known: Known) -> tuple[Column, ...]:
    """Float, all 8 bits (or what step1 left so) where a search measured it, this build."""
    metric, timing = report.metric, report.timing
    given = Column(
        "float",
        Accuracy(metric=metric.float_value if metric else None),
        report.sizes.float_bytes,
        timing.float_ms if timing else None,
        1.0,
        board=known.board,
    )
    floats = [o for o in report.outputs if o.equal is None]
    whole = min((o.sqnr_db for o in floats), default=None)
    worst = min((o.worst_sqnr_db for o in floats if o.worst.axis >= 0), default=None)
    centered = min((o.centered_sqnr_db for o in floats if o.centered_sqnr_db is not None), default=None)
    built = Column(
        "this build",
        Accuracy(whole, worst, centered, metric.hybrid_value if metric else None),
        report.sizes.hybrid_bytes,
        timing.hybrid_ms if timing else None,
        known.high_fraction,
        board=known.board,
    )
    before = "step1's own" if known.left_high else "all 8 bits"
    low = (
        Column(before, known.all_8bit, high_fraction=known.left_high, measured_on="the search's samples")
        if known.all_8bit
        else None
    )
    return tuple(c for c in (given, low, built, *_elsewhere(report, known)) if c is not None)


def _elsewhere(report: ComparisonReport, known: Known) -> Iterator[Column]:
    """Float and this build in another runtime."""
    found = report.runtime
    if found is not None:
        m, t = found.metric, found.timing
        yield Column(
            f"float/{found.name}",
            Accuracy(found.float_sqnr_db, metric=m.float_value if m else None),
            time_ms=t.float_ms if t else None,
            high_fraction=1.0,
            timed_on=f"{found.title} on this machine",
        )
        yield Column(
            f"build/{found.name}",
            Accuracy(found.sqnr_db, metric=m.hybrid_value if m else None),
            time_ms=t.hybrid_ms if t else None,
            high_fraction=known.high_fraction,
            timed_on=f"{found.title} on this machine",
        )


def rows(report: ComparisonReport, columns: Sequence[Column]) -> list[tuple[str, ...]]:
    """A table's rows: a head, then a cell for each column; what is known of no model is left out."""
    found: list[tuple[str, ...]] = []
    if report.metric is not None:
        name = words.short(report.metric.name, 24)
        found.append((name, *(_number(c.accuracy.metric, "{:.4f}") for c in columns)))
    found += [
        ("SQNR", *(words.decibels(c.accuracy.sqnr_db) for c in columns)),
        ("worst slice's SQNR", *(words.decibels(c.accuracy.worst_sqnr_db) for c in columns)),
        ("centered SQNR", *(words.decibels(c.accuracy.centered_sqnr_db) for c in columns)),
        ("size", *("-" if c.size is None else words.size(c.size) for c in columns)),
    ]
    if report.timing is not None:
        whose = "PC time" if any(c.board for c in columns) else "time"
        found.append((f"{whose}, {words.threads(report.timing.threads)}", *(_time(c, report) for c in columns)))
    found.append(("MACs above 8 bits", *(_number(c.high_fraction, "{:.1%}") for c in columns)))
    return [(head, *cells) for head, *cells in found if set(cells) != {"-"}]


def _time(column: Column, report: ComparisonReport) -> str:
    """The time; no number where its pairs disagree: it would be read as one."""
    runtime = report.runtime.timing if report.runtime is not None else None
    timing = report.timing if column.timed_on == PC else runtime
    shaky = column.time_ms is not None and timing is not None and unsteady(timing)
    return NOT_STEADY if shaky else _number(column.time_ms, "{:.2f} ms")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
