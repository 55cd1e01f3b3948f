"""``step1``, ``check``, ``step2``, ``step3``, ``demo``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from hybridq import steps, targets
from hybridq.cli.findings import tell_findings
from hybridq.cli.flags import FILE, FOLDER, Talk, common, counted, row, talk, threads
from hybridq.cli.grouped import and_more, groups
from hybridq.cli.search_flags import budget_flags, headline, judge, need_proposal, search_arguments, tell_search
from hybridq.cli.step1_flags import arguments, calibration, comparison
from hybridq.cli.terminal import echo
from hybridq.compare.fidelity import ENOUGH_DB, Fidelity
from hybridq.config import to_github, to_json
from hybridq.engines.table import ENGINES
from hybridq.errors import ConfigError
from hybridq.graph.saturation import SATURATES, saturates
from hybridq.report import print_report
from hybridq.report.build_json import BuildReport, EditRow
from hybridq.report.words import decibels
from hybridq.steps.calibrating import Step1Result
from hybridq.steps.common import read_state
from hybridq.steps.demo import REPORT, run_demo
from hybridq.steps.options.proposal import ProposalOptions
from hybridq.steps.options.validation import read
from hybridq.steps.propose import propose
from hybridq.storage.state import State

SHOWN = 12  # rows of a table before the rest is counted
TIES = "no layer is to blame, values between two integers are rounded otherwise"


@click.command()
@click.argument("model", type=FILE)
@click.option("-o", "--out", required=True, type=FOLDER, help="The folder to write to.")
@calibration
@click.option("--proposal", is_flag=True, help="Search for the layers that need more bits and write them into the cfg.")
@budget_flags
@common
def step1(model: Path, dataset: Path | None, out: Path, proposal: bool, **given: Any) -> None:
    """Calibrate MODEL and write model.json, weights.data and the cfg to edit.

    \b
    hybridq step1 yolo.onnx --dataset dataset.txt -o build --mean 0,0,0 --std 255,255,255 --resize letterbox
    hybridq step1 yolo.onnx --dataset dataset.txt -o build --proposal --max-high 0.1
    hybridq step1 yolo.onnx --dataset images/ -o build --outputs /22/cv2,/22/cv3     without its post-processing

    With --proposal, a budget that was given and cannot be held ends with exit code 1 and says what was reached; the
    best choice is written all the same.
    """
    voice = talk(given["quiet"], given["verbose"], given["as_json"])
    wanted = search_arguments(given)
    if not proposal:
        need_proposal(given)
    try:
        result = steps.step1(model, dataset, out, progress=voice.progress, every_algorithm=proposal, **arguments(given))
        places = {name: given[name] for name in ("threads", "workers", "cluster")}
        found = propose(out, dataset, progress=voice.progress, **places, **wanted) if proposal else None
    finally:
        voice.done()
    if found is not None:
        voice.say(headline(found))
    tell_step1(voice, result, searched=proposal)
    if found is not None:
        tell_search(voice, found)
    voice.say(f"Edit {out / 'model.quantization.cfg'}, then run: hybridq step2 {out}")
    if found is not None:
        judge(found, read(ProposalOptions, wanted).budget)


def tell_step1(voice: Talk, result: Step1Result, *, searched: bool = False) -> None:
    """What entered the model, what 8 bits will harm (less where a search came after it), then what was done."""
    table = Table("input", "channel", "min", "max", "mean", title="What entered the model")
    for r in result.rows[:SHOWN]:
        channel = "" if r.channel is None else str(r.channel)
        row(table, r.input, channel, f"{r.min:.6g}", f"{r.max:.6g}", f"{r.mean:.6g}")
    if result.rows:
        voice.say(table)
    model, calibrated = result.state.model, result.state.calibrated
    floats = {x.name: x.float_only for x in model.layers if x.float_only}
    problems = result.problems
    voice.problems(problems)
    tell_findings(voice, result.findings, result.directory, searched=searched)
    voice.say(
        f"{model.name}: {counted(len(model.layers), 'layer')} calibrated on "
        f"{counted(result.state.samples, 'sample')} "
        f"for {calibrated.target}, {_defaults(result.state)}; {len(floats)} must stay float32"
    )
    for same in groups(floats.items(), lambda item: item[1])[:SHOWN]:
        voice.say(f"  {and_more(same[0][0], len(same))}: {same[0][1]}")
    for line in result.remarks:
        voice.say(line)
    voice.data(
        {
            "directory": str(result.directory),
            "samples": result.state.samples,
            "layers": len(model.layers),
            "states": dict(model.states),
            "problems": to_json(problems),
            "findings": [{**asdict(f), "command": f.command(str(result.directory))} for f in result.findings],
        }
    )


def _defaults(state: State) -> str:
    """The precision that layers have unless the cfg says otherwise; each with its count where none has the target's."""
    held = [state.calibrated.layers.get(x.name) for x in state.model.layers]
    usual = str(state.calibrated.default)
    told = Counter(
        usual if one is None else f"weights alone in {one.weight_only}" if one.weight_only else str(one.precision)
        for one in held
    )
    return usual if usual in told or not told else ", ".join(f"{n} {what}" for what, n in told.most_common())


@click.command()
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.option("--github", is_flag=True, help="Print problems as GitHub annotations.")
@common
def check(directory: Path, github: bool, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Validate the cfg of DIR: every problem at once, with its place and the remedy.

    \b
    hybridq check build
    hybridq check build --json      the same list for editors
    """
    voice = talk(quiet, verbose, as_json)
    try:
        problems = steps.check(directory)
    except ConfigError as error:
        if github:
            echo(to_github(error.problems))
            raise SystemExit(1) from None
        raise
    if github:
        echo(to_github(problems), nl=bool(problems))
        return
    voice.problems(problems if not as_json else [], whole=True)
    voice.data(to_json(problems))
    said = counted(len(problems), "warning or note") if len(problems) == 1 else f"{len(problems)} warnings and notes"
    voice.say(f"{directory / 'model.quantization.cfg'}: no errors, {said}")


@click.command()
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.option("-o", "--out", type=FILE, help="Write the model here.  [default: DIR/hybrid.onnx]")
@click.option("--portable", is_flag=True, help="Leave out what only ONNX Runtime needs.")
@threads
@common
def step2(
    directory: Path, out: Path | None, portable: bool, threads: int, quiet: bool, verbose: bool, as_json: bool
) -> None:
    """Validate the cfg of DIR and build DIR/hybrid.onnx.

    \b
    hybridq step2 build
    hybridq step2 build -o other.onnx --portable      plain QDQ for OpenVINO, TensorRT and others
    """
    voice = talk(quiet, verbose, as_json)
    try:
        result = steps.step2(directory, out, portable=portable, threads=threads, progress=voice.progress)
    finally:
        voice.done()
    voice.problems(result.problems)
    tell_build(voice, result.report)
    if result.fidelity is not None:
        tell_fidelity(voice, result.fidelity)
    voice.say(f"wrote {result.path} ({result.path.stat().st_size / 1e6:.2f} MB); next: hybridq step3 {directory}")
    voice.data({"path": str(result.path), "counts": result.report.counts, "high_fraction": result.report.high_fraction})


def tell_fidelity(voice: Talk, found: Fidelity) -> None:
    """How far the optimized model is from the file as written, and whether anything is lost by that."""
    voice.say(f"ONNX Runtime optimized against the file as written: {decibels(found.worst)} on the first sample")
    if found.worst >= ENOUGH_DB:
        return
    name = min(found.optimized_db, key=lambda n: found.sqnr_db[n], default="")
    floats = f"{decibels(found.optimized_db.get(name))} and {decibels(found.plain_db.get(name))} from float"
    named = ", ".join(found.differing[:SHOWN])
    cause = f"computed otherwise than written: {named}" if named else TIES
    if found.faithful:
        voice.say(f"  no loss, both are as near to the float model ({floats}); {cause}")
    else:
        voice.say(Text(f"  good from {ENOUGH_DB:g} dB{f'; {floats}' if name else ''}; {cause}", "yellow"))


def tell_build(voice: Talk, report: BuildReport) -> None:
    """Edits and their effects, layers that differ from what was asked, counts."""
    if report.edits:
        table = Table("line", "entry", "field", "before", "after", "effect", title="Edits found")
        for alike in _edits(report):
            edit = alike[0]
            name = and_more(edit.key, len(alike))
            row(table, str(edit.line or ""), name, edit.field, edit.before, edit.after, edit.effect)
        voice.say(table)
    changed = [c for c in report.changed if c.asked != c.done or c.why]
    if changed:
        table = Table(
            Column("layer", overflow="fold"),
            "operator",
            "asked",
            "done",
            "why",
            title="Not in the usual precision, or not as asked",
        )
        kinds = groups(changed, lambda c: (c.asked, c.done, c.why))
        for same in kinds[:SHOWN]:
            c = same[0]
            row(table, and_more(c.name, len(same)), ", ".join(sorted({x.op for x in same})), c.asked, c.done, c.why)
        voice.say(table)
        if len(kinds) > SHOWN:
            voice.say(f"  and {counted(sum(map(len, kinds[SHOWN:])), 'more layer')}, see build.json")
    counts = ", ".join(f"{n} {p}" for p, n in sorted(report.counts.items(), key=lambda item: -item[1]))
    share = report.weight_bytes / max(report.float_weight_bytes, 1)
    voice.say(f"layers: {counts}; {report.high_fraction:.1%} of the MACs above 8 bits; weights {share:.0%} of float32")


def _edits(report: BuildReport) -> list[list[EditRow]]:
    """Each edit alone, or where there are many those that do the same together."""
    if len(report.edits) <= SHOWN:
        return [[one] for one in report.edits]
    return groups(report.edits, lambda e: (e.field, e.before, e.after, e.effect))[: 4 * SHOWN]


@click.command()
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.option("--dataset", type=FILE, help="Samples to compare on.  [default: the calibration set]")
@comparison
@click.option("--what-if", is_flag=True, help="Measure each quantizer alone: the page then predicts other choices.")
@click.option("--board", type=FOLDER, help="Tensors captured on a device, of RKNN, SNPE, QNN, or named as ours.")
@click.option("--runtime", type=click.Choice(list(ENGINES)), help="Score and time the result in this runtime, too.")
@click.option("--dump", is_flag=True, help="Write the first sample's tensors to DIR/report/dump, as RKNN does.")
@common
def step3(directory: Path, dataset: Path | None, quiet: bool, verbose: bool, as_json: bool, **given: Any) -> None:
    """Compare float32 with DIR/hybrid.onnx: accuracy, per-layer error, size, speed.

    \b
    hybridq step3 build --dataset eval.txt
    hybridq step3 build --dataset eval.txt --metric score.py:ap50
    hybridq step3 build --dataset eval.txt --what-if --draw mask
    hybridq step3 build --dataset eval.txt --runtime openvino
    hybridq step3 build --board snapshot/          what the board computes, layer by layer
    """
    voice = talk(quiet, verbose, as_json)
    try:
        result = steps.step3(directory, dataset, progress=voice.progress, **given)
    finally:
        voice.done()
    if not (quiet or as_json):
        print_report(result.report, voice.out, result.verdict)
        target = targets.load(read_state(directory).calibrated.target)
        voice.say(f"simulated: {target.name}, {target.title}; verified: {target.verified}")
        if saturates():
            voice.say(SATURATES)
        voice.say(f"report: {result.folder}")
    voice.data(result.to_json())


@click.command()
@click.option("-o", "--out", type=FOLDER, default="hybridq-demo", show_default=True, help="The folder to work in.")
@click.option("--open", "opened", is_flag=True, help="Open the report in a browser at the end.")
@threads
@common
def demo(out: Path, opened: bool, threads: int, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Show the whole flow on bundled detectors and bundled pictures, no download, under a minute.

    \b
    hybridq demo -o /tmp/demo
    hybridq demo --open
    """
    voice = talk(quiet, verbose, as_json)
    try:
        rows = run_demo(out, say=voice.say, threads=threads, progress=voice.progress)
    finally:
        voice.done()
    voice.data([{**asdict(one), "path": str(one.path)} for one in rows])
    if opened:
        click.launch(str(out / REPORT))


COMMANDS = (step1, check, step2, step3, demo)
