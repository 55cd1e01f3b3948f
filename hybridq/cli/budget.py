"""The flags that say what a search may spend, which ``auto`` and ``step1 --proposal`` share, and what it found."""

from __future__ import annotations

from typing import Any

import click

from hybridq.cli.options import F, Talk, names
from hybridq.dtypes import Precision
from hybridq.search import Budget, SearchResult

SHOWN = 20

OPTIONS = (
    click.option("--max-high", type=click.FloatRange(0, 1), help="Share of the MACs above 8 bits.  [default: 0.15]"),
    click.option("--min-sqnr", type=float, metavar="DB", help="SQNR that the worst output must reach."),
    click.option("--max-drop", type=click.FloatRange(0), help="Most that --metric may drop against float32."),
    click.option(
        "--min-speedup", type=click.FloatRange(0, min_open=True), metavar="RATIO", help="Speed against float32."
    ),
    click.option("--metric", metavar="FILE.py:FUNCTION", help="Your own figure over all outputs, higher is better."),
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
    if not found.feasible:
        voice.err.print("infeasible: the budget cannot be held; this is the best that was reached", style="yellow")
    voice.say(f"{len(found.layers)} layers get more bits, {found.figures.high:.1%} of the MACs:")
    for name, why in list(found.reasons.items())[:SHOWN]:
        voice.say(f"  {name}: {found.layers.get(name, '')}  {why}")
    if len(found.reasons) > SHOWN:
        voice.say(f"  and {len(found.reasons) - SHOWN} more, see the cfg")
