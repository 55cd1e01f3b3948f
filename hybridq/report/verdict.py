"""The verdict on a build: is it good, why not, and what to do next. Pure: reads figures, measures nothing.

The cosine decides nothing: a detector whose scores are lost beside its boxes has .99999. What counts is the signal an
output keeps, whole and in its worst slice that has any, the user's own metric, data outside the calibrated ranges, and
whether ONNX Runtime computes what the file says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from hybridq.compare import ComparisonReport, MetricReport, OutputReport
from hybridq.compare.results import plain
from hybridq.report import board_section, error_over_time, words
from hybridq.report.actions import next_actions
from hybridq.report.advice import Action
from hybridq.report.columns import Column, side_by_side
from hybridq.report.gain import GOOD_CENTERED_DB, GOOD_WHOLE_DB, GOOD_WORST_DB
from hybridq.report.known import Known
from hybridq.report.slower import slower
from hybridq.report.suspects import blamed_below, harmed_alone


class Level(StrEnum):
    """How good a build is."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


SEVERITY = tuple(Level)  # from good to bad
WHOLE_DB = {Level.BROKEN: 10.0, Level.WARNING: GOOD_WHOLE_DB}  # a whole output below this, signal over noise
WORST_DB = {Level.BROKEN: 3.0, Level.WARNING: GOOD_WORST_DB}  # its worst slice, that slice's variance over its noise: a
# detector whose scores keep 27 dB has lost a tenth of its F1; whether another model bears it, only a metric can say
CENTERED_DB = {Level.BROKEN: 3.0, Level.WARNING: GOOD_CENTERED_DB}  # what varies over the samples, over the noise
CENTERED_SAMPLES = 5  # fewer hardly say what varies
EQUAL = {Level.BROKEN: 0.9, Level.WARNING: 0.99}  # share of equal values in an output of integers
DROP = {Level.BROKEN: 0.1, Level.WARNING: 0.01}  # of the float model's metric
FEW_OUTSIDE = 0.01  # of a tensor's values
BESIDE = 3  # slices that are named beside the worst one
FAITHFUL_DB = {Level.BROKEN: 10.0, Level.WARNING: 30.0}  # ONNX Runtime optimized against the file as written


@dataclass(frozen=True, slots=True)
class Charge:
    """One thing that speaks against a build; ``short_by``: how far in dB an output is below its limit, if in dB."""

    level: Level
    reason: str
    short_by: float = math.inf


@dataclass(frozen=True, slots=True)
class Verdict:
    """The level, its reason in one sentence, at most three things to do next, the models side by side.

    ``by_design`` are the layers that step1 leaves in float, whatever their figures; ``unheard`` those in 8 bits that
    alone lose what no reader hears. Below ``blamed_below_db`` alone a layer is to blame; None where none is in 8 bits.
    ``slower`` is what to do about the time of a build that takes longer than float; None where it does not.
    """

    level: Level
    reason: str
    actions: tuple[Action, ...]
    columns: tuple[Column, ...]
    by_design: tuple[str, ...] = ()
    unheard: tuple[str, ...] = ()
    blamed_below_db: float | None = None
    slower: Action | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``verdict`` in ``report.json``; what is infinite there is null, as everywhere in it."""
        found: dict[str, Any] = plain({**asdict(self), "level": str(self.level)})
        return found


def judge(report: ComparisonReport, known: Known) -> Verdict:
    """Judge a build by the worst thing that speaks against it."""
    charges = [*_board(report), *_loop(report), *_metric(report), *_outputs(report), *_drift(report), *_fidelity(known)]
    worst = max(charges, key=lambda charge: SEVERITY.index(charge.level), default=None)
    level, reason = (worst.level, worst.reason) if worst else (Level.OK, _praise(report))
    actions = next_actions(report, known, good=worst is None)
    by_design = tuple(x.name for x in report.layers if x.name in known.by_design)
    unheard = tuple(x.name for x in harmed_alone(report, known) if x.name in known.trimmed)
    limit = blamed_below(report, known)
    late = slower(report, known)
    return Verdict(level, reason, actions, side_by_side(report, known), by_design, unheard, limit, late)


def limits() -> str:
    """From where on the outputs are a warning, or broken, in words."""
    whole, worst = WHOLE_DB, WORST_DB
    return (
        f"Warning: an output below {whole[Level.WARNING]:g} dB, {CENTERED_DB[Level.WARNING]:g} dB centered, or a slice "
        f"below {worst[Level.WARNING]:g} dB; broken: {whole[Level.BROKEN]:g} dB, or a slice or centered "
        f"{worst[Level.BROKEN]:g} dB. A metric of your own counts more. {MEANT}"
    )


MEANT = (
    "A slice is one channel, position or concatenated part, against its own variance: one number for a whole output "
    "hides it. Centered: noise against what varies from sample to sample; what is the same for all hides errors, too."
)


def _below(value: float, limits: dict[Level, float]) -> Level | None:
    """The worst level whose limit a value falls short of."""
    return next((level for level in reversed(SEVERITY) if level in limits and value < limits[level]), None)


def _bound(level: Level, limits: dict[Level, float]) -> str:
    """The limit that a value falls short of, in words: decibels, or shares up to 1."""
    limit = f"{limits[level]:.0%}" if limits[level] <= 1.0 else f"{limits[level]:g} dB"
    return f"broken below {limit}" if level is Level.BROKEN else f"good from {limit}"


def _metric(report: ComparisonReport) -> Iterator[Charge]:
    level = _metric_level(report.metric)
    if level and (m := report.metric):
        fall = f"by {m.drop / abs(m.float_value):.1%}, " if m.float_value else ""
        bound = f"broken from {DROP[level]:.0%}" if level is Level.BROKEN else f"good up to {DROP[level]:.0%}"
        yield Charge(level, f"{m.name} falls from {_score(m.float_value)} to {_score(m.hybrid_value)} ({fall}{bound})")


def _score(value: float) -> str:
    """Four decimals; what they would hide gets its leading digits."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.3g}"


def _metric_level(metric: MetricReport | None) -> Level | None:
    """Of a drop, as a share of the float model's figure."""
    if metric is None or metric.drop <= 0:
        return None
    share = metric.drop / abs(metric.float_value) if metric.float_value else 1.0
    return _below(-share, {level: -limit for level, limit in DROP.items()})


def _outputs(report: ComparisonReport) -> Iterator[Charge]:
    """Lost signal, the output first that is farthest below its limit; how many are below theirs, if not one alone.

    Where the user's metric holds, it only warns: the metric knows what matters.
    """
    holds = report.metric is not None and _metric_level(report.metric) is None
    found = [charge for o in worst_first(report) if (charge := _of_output(o, report.samples))]
    several = f"; {len(found)} of {len(report.outputs)} outputs fall short" if len(found) > 1 else ""
    for charge in found:
        if not holds:
            yield replace(charge, reason=charge.reason + several)
        elif charge.level is Level.BROKEN:
            yield Charge(Level.WARNING, f"{charge.reason}, although the metric holds")


def worst_first(report: ComparisonReport) -> list[OutputReport]:
    """The outputs from the one that is farthest below its limit on, those that are not below by what they keep."""

    def rank(output: OutputReport) -> tuple[float, float, float]:
        charge = _of_output(output, report.samples)
        level, short_by = _weight(charge) if charge else (SEVERITY.index(Level.OK), 0.0)
        return -level, -short_by, min(output.sqnr_db, output.worst_sqnr_db)

    return sorted(report.outputs, key=rank)


def _weight(charge: Charge) -> tuple[int, float]:
    return SEVERITY.index(charge.level), charge.short_by


def _of_output(output: OutputReport, samples: int) -> Charge | None:
    """The gravest thing that speaks against an output."""
    figures, name = output.figures, f"'{words.short(output.name, 40)}'"
    if figures.mismatched:
        many = f"{figures.mismatched} sample{'s' * (figures.mismatched > 1)}"
        return Charge(Level.BROKEN, f"output {name} has another shape than float's in {many}")
    if figures.nonfinite:
        return Charge(Level.BROKEN, f"output {name} has {figures.nonfinite} NaN or infinite values in one model only")
    if output.equal is not None:
        level = _below(output.equal, EQUAL)
        return (
            Charge(level, f"{output.equal:.2%} of output {name} equals float's ({_bound(level, EQUAL)})")
            if level
            else None
        )
    return max((*_of_signal(output, name), *_of_centered(output, name, samples)), key=_weight, default=None)


def _of_signal(output: OutputReport, name: str) -> Iterator[Charge]:
    """By the whole output's power or by its worst slice."""
    whole, worst = _below(output.sqnr_db, WHOLE_DB), _below(output.worst_sqnr_db, WORST_DB)
    if worst and (whole is None or SEVERITY.index(worst) >= SEVERITY.index(whole)):
        cut = "" if output.worst.axis < 0 else f" at {words.where(output, output.worst)}"
        whole_one = f"; {words.decibels(output.sqnr_db)} as a whole" if cut else ""
        told = f"{_kept(output.worst_sqnr_db)} ({_bound(worst, WORST_DB)}{whole_one})"
        reason = f"output {name}{cut} {told}{_beside(output, WORST_DB[worst])}"
        yield Charge(worst, reason, WORST_DB[worst] - output.worst_sqnr_db)
    elif whole:
        told = f"{_kept(output.sqnr_db)} ({_bound(whole, WHOLE_DB)})"
        yield Charge(whole, f"output {name} {told}", WHOLE_DB[whole] - output.sqnr_db)


def _beside(output: OutputReport, limit: float) -> str:
    """The other slices along the worst one's axis that are below the limit, too, the worst first."""
    worst = output.worst
    wide = worst.stop - worst.start > 1
    alike = [s for s in output.slices if s.axis == worst.axis and (s.stop - s.start > 1) is wide]
    low = sorted((s for s in alike if s.sqnr_db < limit and s.start != worst.start), key=lambda s: s.sqnr_db)
    if not low:
        return ""
    more = f" and {len(low) - BESIDE} more" if len(low) > BESIDE else ""
    verb = "is" if len(low) == 1 else "are"
    return f"; so {verb} {', '.join(words.place(s) for s in low[:BESIDE])}{more}"


def _of_centered(output: OutputReport, name: str, samples: int) -> Iterator[Charge]:
    """By what varies over the samples, where they are enough to say."""
    centered = output.centered_sqnr_db
    level = _below(centered, CENTERED_DB) if centered is not None and samples >= CENTERED_SAMPLES else None
    if level and centered is not None:
        whole = f"({_bound(level, CENTERED_DB)}; {words.decibels(output.sqnr_db)} with what all samples share)"
        reason = f"what varies in output {name} from sample to sample {_kept(centered)} {whole}"
        yield Charge(level, reason, CENTERED_DB[level] - centered)


def _kept(value: float) -> str:
    left = words.decibels(value)
    return f"is down to {left}" if left != "lost" else "is lost"


def _drift(report: ComparisonReport) -> Iterator[Charge]:
    """Data beyond the calibrated ranges; a few values of them say nothing where these very samples came out well."""
    far = [one for one in report.drift if one.significant]
    few = all(one.share < FEW_OUTSIDE for one in far)
    if far and not (few and all(_of_output(one, report.samples) is None for one in report.outputs)):
        most = max(far, key=lambda one: one.share)
        yield Charge(
            Level.WARNING,
            f"{len(far)} tensor{'s' * (len(far) > 1)} left the range that calibration saw, most '"
            f"{words.short(most.tensor, 40)}' ({most.share:.2%} outside)",
        )


def _board(report: ComparisonReport) -> Iterator[Charge]:
    """A device that does not compute what was planned: broken where a layer from there on loses its signal."""
    found = report.board
    if found is not None and found.first_apart:
        least = min(x.against_float.sqnr_db for x in found.layers if not x.as_planned)
        yield Charge(_below(least, WHOLE_DB) or Level.WARNING, board_section.sentence(found))


def _loop(report: ComparisonReport) -> Iterator[Charge]:
    """An error that feeds itself."""
    course = error_over_time.worst_of(report.loop) if report.loop is not None else ""
    level = {"explodes": Level.BROKEN, "grows": Level.WARNING}.get(course)
    if level and report.loop is not None:
        yield Charge(level, error_over_time.sentence(report.loop))


def _fidelity(known: Known) -> Iterator[Charge]:
    found = known.fidelity_db
    level = None if found is None else _below(found, FAITHFUL_DB)
    if level:
        yield Charge(
            level,
            f"ONNX Runtime, optimized, computes otherwise than the file says ({words.decibels(found)} apart, "
            f"{_bound(level, FAITHFUL_DB)}): "
            "these figures hold for this runtime alone",
        )


def _praise(report: ComparisonReport) -> str:
    floats = [one for one in report.outputs if one.equal is None]
    if report.metric is not None:
        m = report.metric
        return f"{m.name} is {_score(m.hybrid_value)}, float {_score(m.float_value)}"
    if not floats:
        return "every output equals float's" if report.outputs else "there is no output to judge by"
    least = min(o.sqnr_db for o in floats)
    if least == math.inf:
        return "every output equals float's"
    whole = f"every output keeps {words.decibels(least)} or better"
    cut = [db for o in floats if o.worst.axis >= 0 and (db := o.worst_sqnr_db) <= least]
    varying = [o.centered_sqnr_db for o in floats if o.centered_sqnr_db is not None]
    beside = [
        f", {what} {words.decibels(min(dbs))}" for what, dbs in (("its worst slice", cut), ("centered", varying)) if dbs
    ]
    return whole + "".join(beside)
