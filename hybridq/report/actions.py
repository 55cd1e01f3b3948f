"""What to do next: the three actions that promise most, each as a command to copy."""

from __future__ import annotations

import math
import re
import shlex
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from hybridq.compare import ComparisonReport, LayerReport
from hybridq.report import board_section
from hybridq.report.commands import set_command, unset_command
from hybridq.report.known import Known, Remedy
from hybridq.report.prediction import MOST_DB
from hybridq.report.words import decibels, short, without

MOST = 3
LOW = ("uint8", "int8")
TUNING = ("--percentile", "--momentum")  # of one algorithm
FORCED = ("--dtype", "--algorithm", "--weights-repair")  # of all layers at once; step1 by itself looks at each
GUILTY_DB = 12.0  # below the median of the layers in 8 bits: such a layer does what the others do not
HARMLESS_DB = 20.0  # individually: such a layer is not what breaks a model
SEVERE_DB = 10.0  # individually: such a layer is what breaks a model
MORE_HIGH, MORE_TIME = 0.3, 4  # share of the MACs, and times the time, of a search that is to find more
MOST_RAISED = 6  # layers in one action, readers included
BEARABLE_DB = 15.0  # of an output's worst slice: some tasks bear it
DRIFTED = 0.1  # of the layers: so many tensors out of their ranges are of other samples
BETTER_DB = 1.0  # a gain worth an action
HELPS_DB = 3.0  # a gain that comes first
GOOD_WHOLE_DB, GOOD_WORST_DB = 20.0, 30.0  # of a whole output and of its worst slice: nothing speaks against it
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Gain:
    """The lowest output's SQNR in dB after an action, and whether that was ``measured`` or ``predicted``.

    ``worst_db`` is that of the worst slice, ``high_fraction`` the cost: the share of MACs above 8 bits, 0 to 1.
    """

    sqnr_db: float
    by: str
    worst_db: float | None = None
    high_fraction: float | None = None

    @property
    def suffices(self) -> bool:
        """Whether nothing would speak against the outputs any more."""
        return self.worst_db is not None and self.worst_db >= GOOD_WORST_DB and self.sqnr_db >= GOOD_WHOLE_DB

    def __str__(self) -> str:
        told = [_shown(self.sqnr_db)]
        if self.worst_db is not None:
            told.append(f"worst slice {_shown(self.worst_db)}")
        told.append(self.by)
        if self.high_fraction is not None:
            told.append(f"{self.high_fraction:.1%} of MACs")
        return ", ".join(told) + (": enough" if self.suffices else "")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: its ``kind``, why, on which layers, the gain where it is known, the command (or none)."""

    kind: str
    why: str
    layers: tuple[str, ...] = ()
    gain: Gain | None = None
    command: str = ""

    def __str__(self) -> str:
        return self.why + (f": {self.gain}" if self.gain else "")


def next_actions(report: ComparisonReport, known: Known, *, good: bool) -> tuple[Action, ...]:
    """At most ``MOST`` actions, the most promising first; for a good build that nothing need be done."""
    if good:
        return tuple(_samples(report, known)) if known.folder and _warned(report) else (_nothing(report, known),)
    guilty = _guilty(report, known)
    if not known.folder:
        return (*_elsewhere(guilty), *_search(known))
    rules = [
        _device(report, known),
        _undo(guilty, known),
        _samples(report, known) if _drifted(report) else (),
        _front(report, known),
        _raise([x for x in guilty if _alone(x) < SEVERE_DB], known),
        _lint(report, known),
        _predicted(report, known),
        _raise(guilty, known),
        _samples(report, known),
        _cut(report, known),
        _algorithm(report, known),
        _lint(report, known, acquitted=True),
        _metric(report, known),
        _search(known),
    ]
    return useful_first(report, tuple(islice(_distinct(action for rule in rules for action in rule), MOST)))


def useful_first(report: ComparisonReport, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """What is known to bring next to nothing comes behind what is known to bring something."""
    whole = min((o.sqnr_db for o in report.outputs), default=0.0)
    worst = min((o.worst_sqnr_db for o in report.outputs), default=0.0)

    def helps(gain: Gain) -> bool:
        return gain.sqnr_db > whole + HELPS_DB or (gain.worst_db or -math.inf) > worst + HELPS_DB

    little = {a.command for a in actions if a.gain and not helps(a.gain)}
    if not any(a.gain and helps(a.gain) for a in actions):
        return actions
    return tuple(sorted(actions, key=lambda a: a.command in little))


def low_layers(report: ComparisonReport, known: Known) -> list[LayerReport]:
    """Layers in 8 bits that were measured alone, the most damaged first."""
    found = [x for x in report.layers if x.precision in LOW and x.individual and x.name not in known.by_design]
    return sorted(found, key=_alone)


def _device(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """The first layer that a device computes otherwise than planned: no other choice of bits mends that."""
    found = report.board
    if found is not None and found.first_apart:
        command = f"hybridq explain {shlex.quote(known.folder)} {shlex.quote(found.first_apart)}"
        yield Action("device", board_section.advice(found), (), None, command)


def _guilty(report: ComparisonReport, known: Known) -> list[LayerReport]:
    """Layers that alone lose far more than most do."""
    layers = low_layers(report, known)
    if not layers:
        return []
    limit = min(statistics.median(map(_alone, layers)) - GUILTY_DB, HARMLESS_DB)
    return [x for x in layers if _alone(x) < limit][:MOST]


def _alone(layer: LayerReport) -> float:
    return layer.individual.sqnr_db if layer.individual else math.inf


def _undo(guilty: list[LayerReport], known: Known) -> Iterator[Action]:
    edited = [x for x in guilty if x.name in known.edited]
    if edited:
        command = unset_command(known.folder, _names(edited))
        yield Action("undo", f"take back the edited parameters of {_named(edited)}", _names(edited), None, command)


def _shown(db: float) -> str:
    return decibels(math.inf if db >= MOST_DB else db)


def _risen(name: str, known: Known) -> tuple[str, ...]:
    """A layer, what must rise with it, and all that share parameters with one of these."""
    found = (name, *known.together.get(name, ()))
    return tuple(dict.fromkeys((name, *(n for one in found for n in known.shared.get(one, (one,))))))


def _raise(guilty: list[LayerReport], known: Known) -> Iterator[Action]:
    """As many of the guilty layers as stay few, each with what shares its parameters and with its readers."""
    for count in range(len(guilty), 0, -1):
        some = guilty[:count]
        layers = tuple(dict.fromkeys(n for x in some for n in _risen(x.name, known)))
        if len(layers) <= MOST_RAISED or count == 1:
            beside = len(set(layers) - set(_names(some)))
            with_it = f", with {beside} beside" if beside else ""
            why, gain = f"raise {_named(some)}{with_it}{_reason(layers, known)}", _forecast(layers, known.wider, known)
            yield Action("raise", why, layers, gain, set_command(known.folder, layers, known.wider))
            return


def _reason(layers: Iterable[str], known: Known) -> str:
    """What a finding says of some of the layers."""
    found = (one.why.partition(": ")[2] for one in known.lint if set(one.layers) <= set(layers))
    return next((f": {why}" for why in found if why), "")


def _forecast(layers: Iterable[str], precision: str, known: Known) -> Gain | None:
    """What the what-if expects of layers raised beside those that are already; None where it does not know."""
    made, wanted = known.prediction, set(layers)
    if made is None or precision != made.high:
        return None
    raised = {i for i, u in enumerate(made.units) if u.raised or wanted & set(u.layers)}
    figures = list(zip(made.figures, made.decibels(raised), strict=True))
    whole = min((db for f, db in figures if not f.label), default=MOST_DB)
    worst = min((db for f, db in figures if f.label), default=None)
    return Gain(whole, "predicted", worst, made.base_share + sum(made.units[i].share for i in raised))


def _elsewhere(guilty: list[LayerReport]) -> Iterator[Action]:
    """For a model that hybridq did not build."""
    if guilty:
        yield Action("raise", f"give more bits to {_named(guilty)}, in the tool that made this model", _names(guilty))


def _front(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """What a search measured and this build does not have."""
    best = max(known.front, key=lambda one: one.sqnr_db or 0.0, default=None)
    now = min((o.sqnr_db for o in report.outputs), default=0.0)
    if best is not None and best.sqnr_db is not None and best.sqnr_db > now + BETTER_DB:
        yield _remedied(best, known, Gain(best.sqnr_db, "measured"))


def _predicted(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """What the what-if expects to help most; nothing where a layer stands out that it may have missed."""
    if known.predicted is not None and known.predicted.sqnr_db is not None:
        gain = _forecast(known.predicted.layers, known.predicted.precision, known)
        yield _remedied(known.predicted, known, gain or Gain(known.predicted.sqnr_db, "predicted"))


def _lint(report: ComparisonReport, known: Known, *, acquitted: bool = False) -> Iterator[Action]:
    """Findings of which a layer is still in 8 bits: those that measurement leaves as they are, or those it acquits."""
    low = {x.name for x in report.layers if x.precision in LOW}
    yield from (
        _remedied(one, known, _forecast(one.layers, one.precision, known))
        for one in known.lint
        if low.intersection(one.layers) and _is_acquitted(one, report) is acquitted
    )


def _is_acquitted(remedy: Remedy, report: ComparisonReport) -> bool:
    """Whether whole outputs lose far more than all of a finding's layers do alone: something else breaks them."""
    whole = min((o.sqnr_db for o in report.outputs), default=math.inf)
    alone = [_alone(x) for x in report.layers if x.name in remedy.layers and x.individual]
    return whole < GOOD_WHOLE_DB and bool(alone) and min(alone) > whole + HARMLESS_DB


def _remedied(remedy: Remedy, known: Known, gain: Gain | None) -> Action:
    command = set_command(known.folder, remedy.layers, remedy.precision)
    return Action("raise", remedy.why, remedy.layers, gain, command)


def _cut(report: ComparisonReport, known: Known) -> Iterator[Action]:
    worst = min(report.outputs, key=lambda one: one.worst_sqnr_db, default=None)
    parts = known.joined.get(worst.name, ()) if worst else ()
    if worst is not None and parts and worst.worst_sqnr_db < worst.sqnr_db - GUILTY_DB:
        others = [o.name for o in report.outputs if o.name != worst.name]
        why = f"cut here: what is joined into '{short(worst.name, 30)}' as outputs of their own, each with its scale"
        yield Action(
            "cut",
            why,
            parts,
            None,
            _calibrating(known, "--outputs", ",".join([*parts, *others])),
        )


def _warned(report: ComparisonReport) -> bool:
    """Whether a good build still warns of samples beyond the calibrated ranges."""
    return any(one.significant for one in report.drift)


def _drifted(report: ComparisonReport) -> bool:
    """Whether so many tensors left their ranges that the samples are of another kind: no layer is to blame first."""
    return sum(one.significant for one in report.drift) > DRIFTED * len(report.layers)


def _samples(report: ComparisonReport, known: Known) -> Iterator[Action]:
    if _warned(report):
        why = f"calibrate on more samples like these: add them to {short(known.dataset, 40)}"
        yield Action("samples", why, (), None, _calibrating(known))


def _algorithm(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """No layer is guilty: the damage is spread, and another way to choose for all layers reaches them all."""
    if not low_layers(report, known) or _guilty(report, known):
        return
    forced = tuple(flag for flag in FORCED if flag in known.flags)
    if forced:
        why = f"the damage is spread over the layers: calibrate without {' and '.join(forced)}, step1 looks at each"
        yield Action("algorithm", why, (), None, _calibrating(replace(known, flags=_but(known.flags, forced))))
    elif not any(_lint(report, known)):
        yield _other_ranges(known)


def _other_ranges(known: Known) -> Action:
    other = "mmse" if known.algorithm != "mmse" else "percentile"
    why = f"the damage is spread over the layers: choose their ranges by {other} (now {known.algorithm or 'unknown'})"
    if other in known.recorded:
        command = f"hybridq set {shlex.quote(known.folder)} '*' --algorithm {other}"
    else:
        command = _calibrating(known, "--algorithm", other)
    return Action("algorithm", why, (), None, command)


def _metric(report: ComparisonReport, known: Known) -> Iterator[Action]:
    worst = min((o.worst_sqnr_db for o in report.outputs), default=0.0)
    if report.metric is None and worst >= BEARABLE_DB:
        why = "decibels cannot say what your task bears: judge by its own figure, or by a name"
        yield Action("metric", why, (), None, _comparing(known, "--metric", "agreement"))


def _search(known: Known) -> Iterator[Action]:
    """Into a folder of its own: nothing that a person did to this one is lost."""
    why, more = _larger(known)
    if known.metric:
        more = (*more, "--metric", known.metric)
    if known.evaluation not in ("", known.dataset):
        more = (*more, "--evaluation", known.evaluation)
    before = (*without(known.flags, "--weight-only"), *known.search_flags)  # weights alone leave nothing to choose
    words = (known.model, "--dataset", known.dataset, "-o", known.beside, *_given_again(before, more))
    yield Action("search", why, (), None, _line("auto", *words))


def _larger(known: Known) -> tuple[str, tuple[str, ...]]:
    """Why to search, and the budget that finds more than the last one, if there was one."""
    time, high = (_value(known.search_flags, flag) for flag in ("--time", "--max-high"))
    if known.searched:
        share = min(1.0, max(MORE_HIGH, 2 * float(high or 0)))
        return "search again with a larger budget", ("--max-high", f"{share:g}")
    if time:
        return "search again with more time", ("--time", f"{MORE_TIME * float(time):g}")
    return "search for the layers that need more bits", ()


def _nothing(report: ComparisonReport, known: Known) -> Action:
    if report.calibration_data:
        why = "nothing to mend; prove it on samples that calibration has not seen"
        return Action("nothing", why, (), None, _comparing(known, "--dataset", "EVALUATION.txt"))
    return Action("nothing", "nothing: it is good")


def _calibrating(known: Known, *more: str) -> str:
    """Step1 again with what it was given, but ``more``; edits are kept."""
    keeps = () if "--weight-only" in known.flags else ("--merge",)  # its lines in the cfg are step1's own
    words = _given_again(known.flags, more)
    return _line("step1", known.model, "--dataset", known.dataset, "-o", known.folder, *words, *keeps)


def _comparing(known: Known, *more: str) -> str:
    """Step3 again with what it was given, but ``more``."""
    return _line("step3", known.folder, *_given_again(known.compare_flags, more))


def _given_again(words: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return (*_but(words, [word for word in more if word.startswith("--")]), *more)


def _but(words: Sequence[str], flags: Sequence[str]) -> tuple[str, ...]:
    """The words but those of some options and of what goes with these alone."""
    return without(words, *flags, *(TUNING if "--algorithm" in flags else ()))


def _value(words: Sequence[str], flag: str) -> str:
    """The number that stands behind an option; empty where there is none."""
    found = next((after for word, after in pairwise(words) if word == flag), "")
    return found if NUMBER.fullmatch(found) else ""


def _line(*words: str) -> str:
    return " ".join(["hybridq", *map(shlex.quote, words)])


def _distinct(actions: Iterable[Action]) -> Iterator[Action]:
    """Each action that adds something to those before it."""
    before: list[Action] = []
    for action in actions:
        if not any(_covers(one, action) or _is_part(action, one) for one in before):
            before.append(action)
            yield action


def _covers(one: Action, later: Action) -> bool:
    """Whether the later action is the same, or raises more layers and gains no more by it."""
    if one.command == later.command:
        return True
    if not (one.kind == later.kind == "raise" and set(one.layers) <= set(later.layers)):
        return False
    if set(one.layers) == set(later.layers):
        return one.command.rsplit(maxsplit=1)[-1] == later.command.rsplit(maxsplit=1)[-1]
    if one.gain is None or later.gain is None:
        return False
    return one.gain.suffices or _least(later.gain) <= _least(one.gain) + BETTER_DB


def _is_part(later: Action, one: Action) -> bool:
    """Whether the later action raises a part of what an earlier one does, to the same precision, for no known gain."""
    same = (
        one.kind == later.kind == "raise"
        and one.command.rsplit(maxsplit=1)[-1:] == later.command.rsplit(maxsplit=1)[-1:]
    )
    return same and later.gain is None and set(later.layers) < set(one.layers)


def _least(gain: Gain) -> float:
    return gain.sqnr_db if gain.worst_db is None else min(gain.sqnr_db, gain.worst_db)


def _named(layers: list[LayerReport]) -> str:
    rest = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return f"'{short(layers[0].name, 40)}' ({decibels(_alone(layers[0]))} alone){rest}"


def _names(layers: list[LayerReport]) -> tuple[str, ...]:
    return tuple(x.name for x in layers)
