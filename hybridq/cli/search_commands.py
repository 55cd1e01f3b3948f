"""``auto``: calibration, search, build and comparison in one go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hybridq.cli.flags import FILE, FOLDER, common, talk
from hybridq.cli.search_flags import budget_flags, headline, judge, search_arguments, tell_search
from hybridq.cli.step1_flags import arguments, calibration
from hybridq.cli.step_commands import tell_build, tell_step1
from hybridq.report import print_report
from hybridq.steps import propose
from hybridq.steps.options.proposal import ProposalOptions
from hybridq.steps.options.validation import read


@click.command()
@click.argument("model", type=FILE)
@click.option("-o", "--out", required=True, type=FOLDER, help="The folder to write to.")
@click.option("--evaluation", type=FILE, help="Samples to compare on.  [default: the calibration set]")
@calibration
@budget_flags
@common
def auto(model: Path, dataset: Path | None, out: Path, evaluation: Path | None, **given: Any) -> None:
    """Calibrate MODEL, find the layers that need more bits, build and compare: RKNN's auto_hybrid.

    \b
    hybridq auto yolo.onnx --dataset dataset.txt -o build                     at most 15 % of the MACs above 8 bits
    hybridq auto yolo.onnx --dataset dataset.txt -o build --min-sqnr 30       the fewest bits that reach 30 dB
    hybridq auto yolo.onnx --dataset dataset.txt -o build --min-speedup 1.5   the best that is 1.5 times as fast
    hybridq auto yolo.onnx --dataset d.txt -o build --metric score.py:ap50 --max-drop 0.01

    A budget that was given and cannot be held ends with exit code 1 and says what was reached; the best choice is
    written all the same. Search, build and report are then those of the best choice. A search that gains nothing ends
    with 0 and says so in its first line.
    """
    wanted = search_arguments(given)
    voice = talk(given["quiet"], given["verbose"], given["as_json"])
    try:
        result = propose.auto(
            model, dataset, out, evaluation=evaluation, progress=voice.progress, **wanted, **arguments(given)
        )
    finally:
        voice.done()
    voice.say(headline(result.found))
    tell_step1(replace(voice, json=False, quiet=voice.quiet or voice.json), result.calibrated, searched=True)
    tell_search(voice, result.found)
    tell_build(voice, result.built.report)
    if not (voice.quiet or voice.json):
        print_report(result.compared.report, voice.out, result.compared.verdict)
    voice.say(f"the choice is in {out / 'model.quantization.cfg'}, each layer with its reason: prune it, then step2")
    voice.data(result.found.content)
    judge(result.found, read(ProposalOptions, wanted).budget)


COMMANDS = (auto,)
