"""The float model, all 8 bits and this build side by side: accuracy, size, time, share of MACs above 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hybridq.compare import ComparisonReport
from hybridq.compare.timing import unsteady
from hybridq.report import words
from hybridq.report.gain import GOOD_CENTERED_DB, GOOD_WHOLE_DB, GOOD_WORST_DB
from hybridq.report.known import Accuracy, Known

HERE = "these samples"
NAME = 30  # characters of an output's name
PC = "ONNX Runtime on this machine"
NOT_STEADY = "not steady"  # in place of a time
MEANT = {
    "worst slice": "slice: one channel, position or part of an output",
    "centered": "centered: signal is what varies over samples",
}


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


def notes(report: ComparisonReport, columns: Sequence[Column]) -> list[str]:
    """What the words and the marks in the heads say, and what to know of the times."""
    words_used = {head.split(",")[0] for head, *_ in rows(report, columns)}
    found = ["; ".join(meant for word, meant in MEANT.items() if word in words_used)]
    found += [f"* {c.model}: accuracy on {c.measured_on}" for c in columns if c.measured_on != HERE]
    boards = {c.board for c in columns if c.time_ms is not None and c.board}
    found += [f"PC time: {PC}; {board} takes its own" for board in sorted(boards)]
    if report.timing is not None and unsteady(report.timing):
        found.append(unsteady(report.timing))
    return list(filter(None, found))


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
    built = Column(
        "this build",
        Accuracy.of(
            {o.name: o.sqnr_db for o in floats},
            {o.name: o.worst_sqnr_db for o in floats if o.worst.axis >= 0},
            {o.name: o.centered_sqnr_db for o in floats},
            metric.hybrid_value if metric else None,
        ),
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
    """A table's rows: a head, then a cell for each column; what is known of no model is left out.

    Where a model has several outputs, a last cell says whose figure it is.
    """
    found: list[tuple[str, ...]] = []
    if report.metric is not None:
        name = words.short(report.metric.name, 24)
        found.append((name, *(_number(c.accuracy.metric, "{:.4f}") for c in columns)))
    found += [
        (f"SQNR, {good(GOOD_WHOLE_DB)}", *(words.decibels(c.accuracy.sqnr_db) for c in columns)),
        (f"worst slice, {good(GOOD_WORST_DB)}", *(words.decibels(c.accuracy.worst_sqnr_db) for c in columns)),
        (f"centered, {good(GOOD_CENTERED_DB)}", *(words.decibels(c.accuracy.centered_sqnr_db) for c in columns)),
        ("size", *("-" if c.size is None else words.size(c.size) for c in columns)),
    ]
    if report.timing is not None:
        whose = "PC time" if any(c.board for c in columns) else "time"
        found.append((f"{whose}, {words.threads(report.timing.threads)}", *(_time(c, report) for c in columns)))
    found.append(("MACs above 8 bits", *(_number(c.high_fraction, "{:.1%}") for c in columns)))
    shown = [(head, *cells) for head, *cells in found if set(cells) != {"-"}]
    of = _outputs(columns) if len(report.outputs) > 1 else {}
    return [(*row, of.get(row[0].split(",")[0], "")) for row in shown] if of else shown


def heads(report: ComparisonReport, columns: Sequence[Column]) -> tuple[str, ...]:
    """What stands above the cells of ``rows``."""
    several = len(report.outputs) > 1 and _outputs(columns)
    return ("", *(column.head for column in columns), *(["of output"] if several else []))


def good(limit: float) -> str:
    """From where on a figure is good."""
    return f"good from {limit:g} dB"


def _outputs(columns: Sequence[Column]) -> dict[str, str]:
    """By row, the outputs that have its figures: one name, or one a column where they differ."""
    found = {}
    for row, name in (("SQNR", "output"), ("worst slice", "worst_output"), ("centered", "centered_output")):
        of = {c.model: words.short(getattr(c.accuracy, name), NAME) for c in columns if getattr(c.accuracy, name)}
        if of:
            found[row] = (
                ", ".join(f"{n} ({m})" for m, n in of.items()) if len({*of.values()}) > 1 else next(iter(of.values()))
            )
    return found


def _time(column: Column, report: ComparisonReport) -> str:
    """The time; no number where its pairs disagree: it would be read as one."""
    runtime = report.runtime.timing if report.runtime is not None else None
    timing = report.timing if column.timed_on == PC else runtime
    shaky = column.time_ms is not None and timing is not None and unsteady(timing)
    return NOT_STEADY if shaky else _number(column.time_ms, "{:.2f} ms")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
