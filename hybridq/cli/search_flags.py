"""The flags that say what a search may spend, which ``auto`` and ``step1 --proposal`` share, and what it found."""

from __future__ import annotations

import math
from typing import Any

import click

from hybridq.cli.flags import F, Talk, counted, declared
from hybridq.cli.grouped import and_more, groups
from hybridq.cli.terminal import echo
from hybridq.errors import Problem
from hybridq.search.search import Budget, SearchResult
from hybridq.steps.options.proposal import WORST, ProposalOptions
from hybridq.steps.options.validation import asked

SHOWN = 20
NOT_TOGETHER = "each by itself holds, all together do not"
ENDED = "the search ended before it had chosen one that holds it; --time gives it longer"
STEP1_LEAVES = (
    "Step1 itself leaves {own:.1%} of the MACs above 8 bits, for speed, accuracy or want of an integer form: give "
    "--max-high {least:g} or more, or --dtype uint8 (int8), with which all that can have 8 bits starts there."
)


def budget_flags(command: F) -> F:
    """Give a command the flags that say what may be spent."""
    for one in reversed(asked(ProposalOptions)):
        command = declared(one)(command)
    return command


def search_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The options as ``steps.propose`` takes them."""
    return {one.name: given[one.name] for one in asked(ProposalOptions)}


def headline(found: SearchResult) -> str:
    """What a search came to, in one line."""
    if not found.layers and "time" in found.content["budget"] and not found.content["alone"]:
        return "no layer gets more bits: time was over before any was measured, give more of it (--time)"
    if not found.layers:
        return "no layer gets more bits: none helps within the budget"
    verb = "gets" if len(found.layers) == 1 else "get"
    return f"{counted(len(found.layers), 'layer')} {verb} more bits, {found.figures.high:.1%} of the MACs"


def tell_search(voice: Talk, found: SearchResult) -> None:
    """Which layers were chosen, and why."""
    if found.separate:
        names = and_more(found.separate[0], len(found.separate))
        voice.say(f"  {names}: what is joined keeps scales of its own (separate_concats in the cfg)")
    shares, board = (found.content["chosen"][k] for k in ("time_percent", "board_ms"))
    told = groups(found.reasons.items(), lambda item: item if "->" in item[1] else item[1])
    for same in told[:SHOWN]:
        name, why = same[0]
        if len(same) > 1:
            precisions = ", ".join(sorted({str(found.layers[n]) for n, _ in same if n in found.layers}))
            voice.say(f"  {and_more(name, len(same))}: {precisions}  {why}")
            continue
        cost = f", {shares[name]:+.1f} % time" if name in shares else ""
        cost += f" ({board[name]:+.3f} ms)" if name in board else ""
        voice.say(f"  {name}: {found.layers.get(name, '')}  {why}{cost}")
    voice.problems([Problem(text, severity="warning", code="slice") for text in found.warnings])
    if len(told) > SHOWN:
        voice.say(f"  and {sum(map(len, told[SHOWN:]))} more, see the cfg")


def missed(found: SearchResult, budget: Budget) -> list[Problem]:
    """Which flags of the budget the best choice does not hold, each with what was reached."""
    if found.feasible or budget.asks_nothing:
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
    if budget.max_high is not None and figures.high > budget.max_high + 1e-12:
        said.append((f"--max-high {budget.max_high:g}", f"best {figures.high:.1%} of the MACs"))
    if budget.max_drop is not None and figures.metric is not None and not said:
        said.append((f"--max-drop {budget.max_drop:g}", f"best metric {figures.metric:.6g}{within}"))
    flags = _given(budget)
    said = said or [(flags, ENDED if flags.count("--") == 1 or budget.time is not None else NOT_TOGETHER)]
    hints = {flag: _left_by_step1(found, budget) if flag.startswith("--max-high ") else "" for flag, _ in said}
    return [Problem(f"not reachable, {best}", path=flag, code="budget", hint=hints[flag]) for flag, best in said]


def _left_by_step1(found: SearchResult, budget: Budget) -> str:
    """What step1 left above 8 bits before the search, where that alone is more than ``max_high``."""
    own = found.content.get("all_8bit", {}).get("high", 0.0)
    if budget.max_high is None or own <= budget.max_high:
        return ""
    return STEP1_LEAVES.format(own=own, least=math.ceil(own * 1000) / 1000)


def _given(budget: Budget) -> str:
    """The flags of a budget as a person gave them."""
    said = [
        (flag + WORST * (name == "min_worst_sqnr"), getattr(budget, name))
        for name in ("max_high", "min_sqnr", "min_worst_sqnr", "max_drop", "min_speedup")
        for flag in [f"--{name.replace('worst_', '').replace('_', '-')} "]
    ]
    return " ".join(f"{flag}{limit:g}" for flag, limit in said if limit is not None)


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
    for one in asked(ProposalOptions):
        if given[one.name] not in (None, ()):
            raise click.UsageError(f"--{one.name.replace('_', '-')} is for a search: add --proposal.")
