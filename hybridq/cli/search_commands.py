"""``auto``: calibration, search, build and comparison in one go; and the budget flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hybridq.cli.calibration import arguments, calibration
from hybridq.cli.options import FILE, FOLDER, F, Talk, common, names, talk, threads
from hybridq.cli.step_commands import tell_build, tell_step1
from hybridq.dtypes import Precision
from hybridq.report import print_report
from hybridq.search import Budget, SearchResult
from hybridq.steps import propose

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


@click.command()
@click.argument("model", type=FILE)
@click.option("-o", "--out", required=True, type=FOLDER, help="The folder to write to.")
@click.option("--evaluation", type=FILE, help="Samples to compare on.  [default: the calibration set]")
@calibration
@budget_flags
@threads
@common
def auto(model: Path, dataset: Path | None, out: Path, evaluation: Path | None, **given: Any) -> None:
    """Calibrate MODEL, find the layers that need more bits, build and compare: RKNN's auto_hybrid.

    \b
    hybridq auto yolo.onnx --dataset dataset.txt -o build                     at most 15 % of the MACs above 8 bits
    hybridq auto yolo.onnx --dataset dataset.txt -o build --min-sqnr 30       the fewest bits that reach 30 dB
    hybridq auto yolo.onnx --dataset dataset.txt -o build --min-speedup 1.5   the best that is 1.5 times as fast
    hybridq auto yolo.onnx --dataset d.txt -o build --metric score.py:ap50 --max-drop 0.01
    """
    if dataset is None:
        raise click.UsageError("Give --dataset FILE: the search measures on samples.")
    voice = talk(given["quiet"], given["verbose"], given["as_json"])
    try:
        result = propose.auto(
            model, dataset, out, evaluation=evaluation, progress=voice.progress, **asked(given), **arguments(given)
        )
    finally:
        voice.done()
    tell_step1(voice, result.calibrated)
    tell_search(voice, result.found)
    tell_build(voice, result.built.report)
    if not (voice.quiet or voice.json):
        print_report(result.compared.report, voice.out)
    voice.say(f"the choice is in {out / 'model.quantization.cfg'}, each layer with its reason: prune it, then step2")
    voice.data(result.found.content)


def tell_search(voice: Talk, found: SearchResult) -> None:
    """What was chosen, and why."""
    if not found.feasible:
        voice.err.print("infeasible: the budget cannot be held; this is the best that was reached", style="yellow")
    voice.say(f"{len(found.layers)} layers get more bits, {found.figures.high:.1%} of the MACs:")
    for name, why in list(found.reasons.items())[:SHOWN]:
        voice.say(f"  {name}: {found.layers.get(name, '')}  {why}")
    if len(found.reasons) > SHOWN:
        voice.say(f"  and {len(found.reasons) - SHOWN} more, see the cfg")


COMMANDS = (auto,)
