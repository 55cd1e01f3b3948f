"""The flags that say what a search may spend, which ``auto`` and ``step1 --proposal`` share, and what it found."""

from __future__ import annotations

from typing import Any

import click

from hybridq.cli.options import F, Talk, counted, metric_option, names
from hybridq.errors import Problem
from hybridq.quant.dtypes import Precision
from hybridq.search.search import Budget, SearchResult

SHOWN = 20
FLAGS = ("--max-high", "--min-sqnr", "--max-drop", "--min-speedup")

OPTIONS = (
    click.option("--max-high", type=click.FloatRange(0, 1), help="Share of the MACs above 8 bits.  [default: 0.15]"),
    click.option("--min-sqnr", type=float, metavar="DB", help="SQNR that the worst output must reach."),
    click.option("--max-drop", type=click.FloatRange(0), help="Most that --metric may drop against float32."),
    click.option(
        "--min-speedup", type=click.FloatRange(0, min_open=True), metavar="RATIO", help="Speed against float32."
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
    limits = {k: given[k] for k in ("max_high", "min_sqnr", "max_drop", "min_speedup")}
    if limits["max_drop"] is not None and not given["metric"]:
        raise click.UsageError("--max-drop needs --metric.")
    return {"budget": Budget(**limits), "metric": given["metric"], "precisions": words}


def tell_search(voice: Talk, found: SearchResult) -> None:
    """What was chosen, and why."""
    verb, end = "gets" if len(found.layers) == 1 else "get", ":" if found.reasons else ""
    voice.say(f"{counted(len(found.layers), 'layer')} {verb} more bits, {found.figures.high:.1%} of the MACs{end}")
    for name, why in list(found.reasons.items())[:SHOWN]:
        voice.say(f"  {name}: {found.layers.get(name, '')}  {why}")
    if len(found.reasons) > SHOWN:
        voice.say(f"  and {len(found.reasons) - SHOWN} more, see the cfg")


def missed(found: SearchResult, budget: Budget) -> list[Problem]:
    """Which flags of the budget the best choice does not hold, each with what was reached."""
    if found.feasible:
        return []
    figures, speeds = found.figures, found.content.get("times", {}).get("speedups", {}).values()
    within = f" within --max-high {budget.max_high:g}" if budget.max_high is not None else ""
    fastest, said = max(speeds, default=0.0), []
    if budget.min_sqnr is not None and figures.worst < budget.min_sqnr:
        said.append((f"--min-sqnr {budget.min_sqnr:g}", f"best {figures.worst:.1f} dB{within}"))
    if budget.min_speedup is not None and fastest < budget.min_speedup:
        said.append((f"--min-speedup {budget.min_speedup:g}", f"best {fastest:.2f} times float32{within}"))
    if figures.high > budget.high + 1e-12:
        said.append((f"--max-high {budget.high:g}", f"best {figures.high:.1%} of the MACs"))
    if budget.max_drop is not None and figures.metric is not None and not said:
        said.append((f"--max-drop {budget.max_drop:g}", f"best metric {figures.metric:.6g}{within}"))
    limits = {f: getattr(budget, f[2:].replace("-", "_")) for f in FLAGS}
    asked = " ".join(f"{flag} {limit:g}" for flag, limit in limits.items() if limit is not None)
    said = said or [(asked, "each by itself holds, all together do not")]
    return [Problem(f"not reachable, {best}", path=flag, code="budget") for flag, best in said]


def judge(found: SearchResult, budget: Budget) -> None:
    """End with exit code 1, and say what is missed, where the budget cannot be held; all is written by then."""
    problems = missed(found, budget)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        click.echo("the budget is not held; the best choice that was found is written all the same", err=True)
        click.get_current_context().exit(1)


def need_proposal(given: dict[str, Any]) -> None:
    """Refuse flags of a search that nobody asked for."""
    for flag in (*FLAGS, "--metric", "--precisions"):
        if given[flag[2:].replace("-", "_")] is not None:
            raise click.UsageError(f"{flag} is for a search: add --proposal.")
