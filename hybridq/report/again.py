"""Commands that do again what was done, but for what is changed, and what has to follow a change of the cfg."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise

from hybridq.calibration.ranges import OWN_OPTION
from hybridq.report.known import Known
from hybridq.report.words import without

TUNING = tuple(f"--{option}" for option in OWN_OPTION.values())  # of one algorithm
MORE_HIGH, MORE_TIME = 0.3, 4  # share of the MACs, and times the time, of a search that is to find more
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def calibrating(known: Known, *more: str, dataset: str = "") -> str:
    """Step1 again with what it was given, but ``more``, on ``dataset`` (or its own); edits are kept."""
    keeps = () if "--weight-only" in known.flags else ("--merge",)  # its lines in the cfg are step1's own
    words = _given_again(known.flags, more)
    return line("step1", known.model, "--dataset", dataset or known.dataset, "-o", known.folder, *words, *keeps)


def comparing(known: Known, *more: str) -> str:
    """Step3 again with what it was given, but ``more``."""
    return line("step3", known.folder, *_given_again(known.compare_flags, more))


def searching(known: Known, *limits: str) -> str:
    """``auto`` into a folder of its own, by a larger budget or ``limits``: what a person did to this one is kept."""
    more = limits or _larger(known)
    if known.metric:
        more = (*more, "--metric", known.metric)
    if known.evaluation not in ("", known.dataset):
        more = (*more, "--evaluation", known.evaluation)
    before = (*without(known.flags, "--weight-only"), *known.search_flags)  # weights alone leave nothing to choose
    return line("auto", known.model, "--dataset", known.dataset, "-o", known.beside, *_given_again(before, more))


def following(command: str, known: Known) -> str:
    """What has to follow a change of the cfg: the model built and compared again, as this one was."""
    changes = command.startswith(("hybridq set ", "hybridq unset ", "hybridq step1 "))
    return rebuilding(known) if changes else ""


def rebuilding(known: Known) -> str:
    """Step2 and step3 as they were given: what leads from a changed cfg to a new report."""
    return f"{line('step2', known.folder)} && {comparing(known)}"


def without_options(words: Sequence[str], flags: Sequence[str]) -> tuple[str, ...]:
    """The words but those of some options and of what goes with these alone."""
    return without(words, *flags, *(TUNING if "--algorithm" in flags else ()))


def line(*words: str) -> str:
    """A command to copy."""
    return " ".join(["hybridq", *map(shlex.quote, words)])


def timed(known: Known) -> str:
    """How long the last search was to take; empty where nobody said."""
    return _value(known.search_flags, "--time")


def _larger(known: Known) -> tuple[str, ...]:
    """A budget that finds more than that of the last search, if there was one."""
    if known.searched:
        share = min(1.0, max(MORE_HIGH, 2 * float(_value(known.search_flags, "--max-high") or 0)))
        return "--max-high", f"{share:g}"
    time = timed(known)
    return ("--time", f"{MORE_TIME * float(time):g}") if time else ()


def _given_again(words: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return (*without_options(words, [word for word in more if word.startswith("--")]), *more)


def _value(words: Sequence[str], flag: str) -> str:
    """The number that stands behind an option; empty where there is none."""
    found = next((after for word, after in pairwise(words) if word == flag), "")
    return found if NUMBER.fullmatch(found) else ""
