"""The flags that say what a search may spend, which ``auto`` and ``step1 --proposal`` share, and what it found."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import click

from hybridq.cli.options import F, Talk, counted, metric_option, names
from hybridq.cli.terminal import echo
from hybridq.errors import Problem
from hybridq.quant.dtypes import Precision
from hybridq.search.search import Budget, SearchResult

SHOWN = 20
WORST = "worst:"
FLAGS = ("--max-high", "--min-sqnr", "--max-drop", "--min-speedup", "--time")

OPTIONS = (
    click.option("--max-high", type=click.FloatRange(0, 1), help="Share of the MACs above 8 bits.  [default: 0.15]"),
    click.option(
        "--min-sqnr",
        multiple=True,
        metavar="[worst:]DB",
        help="SQNR of the worst output, whole; worst:DB of its worst slice against that slice's own variance.",
    ),
    click.option("--max-drop", type=click.FloatRange(0), help="Most that --metric may drop against float32."),
    click.option(
        "--min-speedup", type=click.FloatRange(0, min_open=True), metavar="RATIO", help="Speed against float32."
    ),
    click.option(
        "--time",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="Take the best found after so long.  [default: a minute of CPU time, or 1,000 float inferences]",
    ),
    metric_option,
    click.option("--precisions", help="Precisions to choose from (uint8,int16,float32).  [default: the target's]"),
)


def budget_flags(command: F) -> F:
    """Give a command the flags that say what may be spent."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def asked(given: dict[str, Any]) -> dict[str, Any]:
    """Budget, metric and precisions as ``steps.propose`` takes them."""
    words = names(given["precisions"])
    wrong = [w for w in words if w not in list(Precision)]
    if wrong:
        raise click.UsageError(f"--precisions {wrong[0]}: choose from {', '.join(Precision)}.")
    limits = {k: given[k] for k in ("max_high", "max_drop", "min_speedup", "time")} | _decibels(given["min_sqnr"])
    if limits["max_drop"] is not None and not given["metric"]:
        raise click.UsageError("--max-drop needs --metric.")
    return {"budget": Budget(**limits), "metric": given["metric"], "precisions": words}


def _decibels(words: Iterable[str]) -> dict[str, float]:
    """``DB`` and ``worst:DB`` as the limits of a budget."""
    found: dict[str, float] = {}
    for word in words:
        kind, text = ("min_worst_sqnr", word[len(WORST) :]) if word.startswith(WORST) else ("min_sqnr", word)
        try:
            found[kind] = float(text)
        except ValueError:
            hint = "a number of dB, or worst:DB for the worst slice"
            raise click.UsageError(f"--min-sqnr {word}: give {hint}.") from None
        if not math.isfinite(found[kind]):
            raise click.UsageError(f"--min-sqnr {word}: dB must be finite.")
    return found


def tell_search(voice: Talk, found: SearchResult) -> None:
    """What was chosen, and why."""
    verb, end = "gets" if len(found.layers) == 1 else "get", ":" if found.reasons else ""
    voice.say(f"{counted(len(found.layers), 'layer')} {verb} more bits, {found.figures.high:.1%} of the MACs{end}")
    for name, why in list(found.reasons.items())[:SHOWN]:
        voice.say(f"  {name}: {found.layers.get(name, '')}  {why}")
    voice.problems([Problem(text, severity="warning", code="slice") for text in found.warnings])
    if len(found.reasons) > SHOWN:
        voice.say(f"  and {len(found.reasons) - SHOWN} more, see the cfg")


def missed(found: SearchResult, budget: Budget) -> list[Problem]:
    """Which flags of the budget the best choice does not hold, each with what was reached."""
    if found.feasible:
        return []
    figures, speeds = found.figures, found.content.get("times", {}).get("speedups", {}).values()
    within = f" within --max-high {budget.max_high:g}" if budget.max_high is not None else ""
    fastest, said = max(speeds, default=0.0), []
    for word, limit, reached in (
        ("", budget.min_sqnr, figures.least),
        (WORST, budget.min_worst_sqnr, figures.least_worst),
    ):
        if limit is not None and reached < limit:
            said.append((f"--min-sqnr {word}{limit:g}", f"best {reached:.1f} dB{within}"))
    if budget.min_speedup is not None and fastest < budget.min_speedup:
        said.append((f"--min-speedup {budget.min_speedup:g}", f"best {fastest:.2f} times float32{within}"))
    if figures.high > budget.high + 1e-12:
        said.append((f"--max-high {budget.high:g}", f"best {figures.high:.1%} of the MACs"))
    if budget.max_drop is not None and figures.metric is not None and not said:
        said.append((f"--max-drop {budget.max_drop:g}", f"best metric {figures.metric:.6g}{within}"))
    limits = [(f"{f} ", getattr(budget, f[2:].replace("-", "_"))) for f in FLAGS if f != "--time"]
    limits.insert(2, (f"--min-sqnr {WORST}", budget.min_worst_sqnr))
    asked = " ".join(f"{flag}{limit:g}" for flag, limit in limits if limit is not None)
    said = said or [(asked, "each by itself holds, all together do not")]
    return [Problem(f"not reachable, {best}", path=flag, code="budget") for flag, best in said]


def judge(found: SearchResult, budget: Budget) -> None:
    """End with exit code 1, and say what is missed, where the budget cannot be held; all is written by then."""
    problems = missed(found, budget)
    for problem in problems:
        echo(str(problem), err=True)
    if problems:
        echo("the budget is not held; the best choice that was found is written all the same", err=True)
        click.get_current_context().exit(1)


def need_proposal(given: dict[str, Any]) -> None:
    """Refuse flags of a search that nobody asked for."""
    for flag in (*FLAGS, "--metric", "--precisions"):
        if given[flag[2:].replace("-", "_")] not in (None, ()):
            raise click.UsageError(f"{flag} is for a search: add --proposal.")
