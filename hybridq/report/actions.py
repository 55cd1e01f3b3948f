"""What to do next: the three actions that promise most, each with its cause and as commands to copy."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from hybridq.compare import ComparisonReport, Drift, LayerReport
from hybridq.report import board_section
from hybridq.report.advice import BETTER_DB, Action, distinct
from hybridq.report.again import calibrating, comparing, following, searching, timed
from hybridq.report.all_layers import algorithm, blamed, ranges, without
from hybridq.report.commands import set_command, unset_command
from hybridq.report.ends import cut, listed
from hybridq.report.gain import GOOD_WHOLE_DB, Gain
from hybridq.report.known import Known, Remedy
from hybridq.report.prediction import MOST_DB
from hybridq.report.suspects import HARMLESS_DB, LOW, alone_db, blamed_below, spread, suspected
from hybridq.report.task import metric
from hybridq.report.words import decibels, short

MOST = 3
SEVERE_DB = 10.0  # individually: such a layer is what breaks a model
MOST_RAISED = 6  # layers in one action, readers included
DRIFTED = 0.1  # of the layers: so many tensors out of their ranges are of other samples
HELPS_DB = 3.0  # a gain that comes first


def next_actions(report: ComparisonReport, known: Known, *, good: bool) -> tuple[Action, ...]:
    """At most ``MOST`` actions, the most promising first; for a good build that nothing need be done."""
    if good:
        found = tuple(_samples(report, known)) if known.folder and _warned(report) else (_nothing(report, known),)
        return _complete(found, known)
    guilty = suspected(report, known)
    if not known.folder:
        return (*_elsewhere(report, guilty, known), *_search(known, "" if guilty else spread(report, known)))
    rules = _of_other_samples(report, guilty, known) if _drifted(report) else _of_layers(report, guilty, known)
    found = tuple(islice(distinct(action for rule in rules for action in rule), MOST))
    return _complete(useful_first(report, found), known)


Rules = list[Iterable[Action]]


def _of_other_samples(report: ComparisonReport, guilty: list[LayerReport], known: Known) -> Rules:
    """Where the samples are of another kind, the layers' figures are of wrong ranges: nothing else keeps these."""
    anew = _on_all_kinds(report, known)
    return [
        _device(report, known),
        listed(report, known),
        _undo(report, guilty, known),
        _samples(report, known),
        _search(anew, ""),
    ]


def _of_layers(report: ComparisonReport, guilty: list[LayerReport], known: Known) -> Rules:
    """Where layers or the way in which all were chosen are to blame; what is blamed is in no other command."""
    free = without(known, blamed(report, known))
    return [
        _device(report, known),
        listed(report, known),
        _undo(report, guilty, known),
        _front(report, known),
        _raise(report, [x for x in guilty if alone_db(x) < SEVERE_DB], known),
        _lint(report, known),
        _predicted(report, known),
        _raise(report, guilty, known),
        _samples(report, known),
        cut(report, known),
        algorithm(report, known, found=any(_lint(report, known))),
        _lint(report, known, acquitted=True),
        _search(free, "" if guilty else spread(report, known)),
        ranges(report, known),
        metric(report, known),
    ]


def _complete(actions: Iterable[Action], known: Known) -> tuple[Action, ...]:
    """Each with what has to follow it."""
    return tuple(replace(one, then=following(one.command, known)) for one in actions)


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


def _device(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """The first layer that a device computes otherwise than planned: no other choice of bits mends that."""
    found = report.board
    if found is not None and found.first_apart:
        command = f"hybridq explain {shlex.quote(known.folder)} {shlex.quote(found.first_apart)}"
        yield Action("device", board_section.advice(found), (), None, command, board_section.sentence(found))


def _undo(report: ComparisonReport, guilty: list[LayerReport], known: Known) -> Iterator[Action]:
    edited = [x for x in guilty if x.name in known.edited]
    if edited:
        command = unset_command(known.folder, _names(edited))
        why, cause = (
            f"take back the edited parameters of {_named(edited)}",
            f"edited parameters, and {_standing_out(report, edited, known)}",
        )
        yield Action("undo", why, _names(edited), None, command, cause)


def _risen(name: str, known: Known) -> tuple[str, ...]:
    """A layer, what must rise with it, and all that share parameters with one of these."""
    found = (name, *known.together.get(name, ()))
    return tuple(dict.fromkeys((name, *(n for one in found for n in known.shared.get(one, (one,))))))


def _raise(report: ComparisonReport, guilty: list[LayerReport], known: Known) -> Iterator[Action]:
    """As many of the guilty layers as stay few, each with what shares its parameters and with its readers."""
    for count in range(len(guilty), 0, -1):
        some = guilty[:count]
        layers = tuple(dict.fromkeys(n for x in some for n in _risen(x.name, known)))
        if len(layers) <= MOST_RAISED or count == 1:
            more = f" and {count - 1} more" if count > 1 else ""
            beside = _with(set(layers) - set(_names(some)))
            why = f"raise '{short(some[0].name, 40)}'{more} to {known.wider}{beside}"
            gain = _forecast(layers, known.wider, report, known)
            cause = _standing_out(report, some, known) + _reason(layers, known)
            yield Action("raise", why, layers, gain, set_command(known.folder, layers, known.wider), cause)
            return


def _with(beside: set[str]) -> str:
    """Layers that share parameters with those that are raised, or read them, in words."""
    if not beside:
        return ""
    who = f"'{short(min(beside), 40)}', which" if len(beside) == 1 else f"{len(beside)} layers that"
    return f", with {who} must rise, too, to keep the gain"


def _standing_out(report: ComparisonReport, some: list[LayerReport], known: Known) -> str:
    """What the worst layer loses alone, in words, and below what a layer is to blame."""
    kept = f"'{short(some[0].name, 40)}' keeps {decibels(alone_db(some[0]))} alone"
    return f"{kept}, far less than most layers (to blame below {decibels(blamed_below(report, known))})"


def _reason(layers: Iterable[str], known: Known) -> str:
    """What a finding says of some of the layers."""
    return next((f": {one.cause}" for one in known.lint if one.cause and set(one.layers) <= set(layers)), "")


def _forecast(layers: Iterable[str], precision: str, report: ComparisonReport, known: Known) -> Gain | None:
    """What the what-if expects of layers raised beside those that are already; None where it does not know.

    An output's centered SQNR changes as that of the whole: the noise is the same.
    """
    made, wanted = known.prediction, set(layers)
    if made is None or precision != made.high:
        return None
    raised = {i for i, u in enumerate(made.units) if u.raised or wanted & set(u.layers)}
    figures = list(zip(made.figures, made.decibels(raised), strict=True))
    whole = min((db for f, db in figures if not f.label), default=MOST_DB)
    worst = min((db for f, db in figures if f.label), default=None)
    below = {o.name: o.centered_sqnr_db - o.sqnr_db for o in report.outputs if o.centered_sqnr_db is not None}
    centered = min((db + below[f.output] for f, db in figures if not f.label and f.output in below), default=None)
    share = made.base_share + sum(made.units[i].share for i in raised)
    return Gain(whole, "predicted", worst, share, centered)


def _elsewhere(report: ComparisonReport, guilty: list[LayerReport], known: Known) -> Iterator[Action]:
    """For a model that hybridq did not build."""
    if guilty:
        why = f"give more bits to {_named(guilty)}, in the tool that made this model"
        yield Action("raise", why, _names(guilty), cause=_standing_out(report, guilty, known))


def _front(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """What a search measured and this build does not have."""
    best = max(known.front, key=lambda one: one.sqnr_db or 0.0, default=None)
    now = min((o.sqnr_db for o in report.outputs), default=0.0)
    if best is not None and best.sqnr_db is not None and best.sqnr_db > now + BETTER_DB:
        cause = "a search has measured a better choice than the one that this model was built with"
        yield _remedied(replace(best, cause=cause), known, Gain(best.sqnr_db, "measured"))


def _predicted(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """What the what-if expects to help most; nothing where a layer stands out that it may have missed."""
    if known.predicted is not None and known.predicted.sqnr_db is not None:
        gain = _forecast(known.predicted.layers, known.predicted.precision, report, known)
        count = len(known.predicted.layers)
        whose = f"{count} layers" if count > 1 else f"'{short(known.predicted.layers[0], 40)}'"
        predicted = replace(known.predicted, cause=f"of all layers' noise that of {whose} weighs most at the outputs")
        yield _remedied(predicted, known, gain or Gain(known.predicted.sqnr_db, "predicted"))


def _lint(report: ComparisonReport, known: Known, *, acquitted: bool = False) -> Iterator[Action]:
    """Findings of which a layer is still in 8 bits: those that measurement leaves as they are, or those it acquits.

    Of the latter only those of which the what-if expects something all the same.
    """
    low = {x.name for x in report.layers if x.precision in LOW}
    for one in known.lint:
        gain = _forecast(one.layers, one.precision, report, known)
        if low.intersection(one.layers) and _is_acquitted(one, report) is acquitted and (gain or not acquitted):
            yield _remedied(one, known, gain)


def _is_acquitted(remedy: Remedy, report: ComparisonReport) -> bool:
    """Whether whole outputs lose far more than all of a finding's layers do alone: something else breaks them."""
    whole = min((o.sqnr_db for o in report.outputs), default=math.inf)
    alone = [alone_db(x) for x in report.layers if x.name in remedy.layers and x.individual]
    return whole < GOOD_WHOLE_DB and bool(alone) and min(alone) > whole + HARMLESS_DB


def _remedied(remedy: Remedy, known: Known, gain: Gain | None) -> Action:
    command = set_command(known.folder, remedy.layers, remedy.precision)
    return Action("raise", remedy.why, remedy.layers, gain, command, remedy.cause)


def _warned(report: ComparisonReport) -> bool:
    """Whether a good build still warns of samples beyond the calibrated ranges."""
    return any(one.significant for one in report.drift)


def _drifted(report: ComparisonReport) -> bool:
    """Whether so many tensors left their ranges that the samples are of another kind: no layer is to blame first."""
    return sum(one.significant for one in report.drift) > DRIFTED * len(report.layers)


def _samples(report: ComparisonReport, known: Known) -> Iterator[Action]:
    if not _warned(report):
        return
    cause = "these samples are of another kind"
    if not _drifted(report):
        cause = "these samples hold values that calibration did not see"
    cause = f"{cause}: {_beyond([one for one in report.drift if one.significant])}"
    anew = _on_all_kinds(report, known)
    why = f"calibrate on all of {short(known.dataset, 40)}, with samples of every kind added to it"
    if anew.dataset != known.dataset:
        other = short(anew.dataset, 40)
        why = (
            f"calibrate on {other} instead of {short(known.dataset, 40)}, or on a list of your own with both kinds; "
            f"this compares on {other} again: to prove the result, compare on samples that are in neither"
        )
    yield Action("samples", why, (), None, calibrating(anew), cause)


def _beyond(far: Sequence[Drift]) -> str:
    """What most of one tensor is beyond, an input rather than what follows from it, and how many tensors are."""
    most = max(far, key=lambda one: (not one.layer, one.share, one.excess))
    was, now = (f"{a:.4g}..{b:.4g}" for a, b in ((most.min, most.max), (most.seen_min, most.seen_max)))
    others = f", and {len(far) - 1} more tensor{'s' * (len(far) > 2)} left their ranges" if len(far) > 1 else ""
    return f"'{short(most.tensor, 40)}' was {was} in calibration and is {now} here{others}"


def _on_all_kinds(report: ComparisonReport, known: Known) -> Known:
    """What is known, but that these samples calibrate: their list, or all of the old one, to which they are added."""
    if _drifted(report) and known.evaluation not in ("", known.dataset):
        return replace(known, dataset=known.evaluation)
    return without(known, ("--samples",))


def _search(known: Known, cause: str) -> Iterator[Action]:
    why = "search for the layers that need more bits"
    if known.searched:
        why = "search again with a larger budget"
    elif timed(known):
        why = "search again with more time"
    yield Action("search", why, (), None, searching(known), cause)


def _nothing(report: ComparisonReport, known: Known) -> Action:
    if report.calibration_data:
        why = "nothing to mend; prove it on samples that calibration has not seen"
        return Action("nothing", why, (), None, comparing(known, "--dataset", "EVALUATION.txt"))
    return Action("nothing", "nothing: it is good")


def _named(layers: list[LayerReport]) -> str:
    rest = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return f"'{short(layers[0].name, 40)}' ({decibels(alone_db(layers[0]))} alone){rest}"


def _names(layers: list[LayerReport]) -> tuple[str, ...]:
    return tuple(x.name for x in layers)
