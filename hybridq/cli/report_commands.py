"""``explain``: one layer on one screen; ``compare``: any two models."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from hybridq.cli.flags import FILE, FOLDER, common, talk
from hybridq.cli.step1_flags import comparison, numbers, preprocessing, states
from hybridq.report import print_report
from hybridq.report.words import decibels, short
from hybridq.steps.compare_models import compare_models
from hybridq.steps.explain import Explanation, Neighbour, explain

COLUMNS, SHOWN = 100, 3  # of a screen; neighbours, edits and findings before the rest is counted
LONG = 80  # characters of a name that is shown whole


@click.command("explain")
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.argument("layer")
@common
def explain_(directory: Path, layer: str, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Say of one layer of DIR why it has its precision, what that does to it, and what would help.

    \b
    hybridq explain build conv1
    hybridq explain build conv1 --json      everything, for programs
    """
    voice = talk(quiet, verbose, as_json)
    found = explain(directory, layer)
    for line in _screen(found):
        voice.say(line)
    voice.data(found.to_json())


@click.command("compare")
@click.argument("float_model", type=FILE, metavar="FLOAT")
@click.argument("other_model", type=FILE, metavar="OTHER")
@click.option("--dataset", required=True, type=FILE, help="Samples to compare on.")
@click.option("-o", "--out", type=FOLDER, help="Write the report's page and files here.")
@comparison
@preprocessing
@states
@common
def compare_(float_model: Path, other_model: Path, dataset: Path, **given: Any) -> None:
    """Compare any two models that have the same inputs and outputs: another tool's with its float one.

    \b
    hybridq compare yolo.onnx build/hybrid.onnx --dataset dataset.txt --std 255,255,255
    hybridq compare yolo.onnx build/hybrid.onnx --dataset dataset.txt --std 255,255,255 -o compared

    The first is the reference. Layers are matched by the names of the tensors that both compute.
    """
    voice = talk(given.pop("quiet"), given.pop("verbose"), given.pop("as_json"))
    given |= {name: numbers(given[name], name) for name in ("mean", "std")}
    try:
        result = compare_models(float_model, other_model, dataset, progress=voice.progress, **given)
    finally:
        voice.done()
    if not (voice.quiet or voice.json):
        print_report(result.report, voice.out, result.verdict)
    if result.folder is not None:
        voice.say(f"report: {result.folder}")
    voice.data(result.to_json())


def _screen(found: Explanation) -> Iterator[str]:
    op = f"{found.op} + {found.activation}" if found.activation else found.op
    shape = "" if found.shape is None else f", {'x'.join(map(str, found.shape))}"
    yield short(f"{found.name}: {op}{shape}, {found.macs:,} MACs ({found.macs_share:.1%})", COLUMNS)
    if found.aliases:
        yield from _listed("also", [short(a, 40) for a in found.aliases])
    asked = "" if found.asked == found.done else f" ({found.asked} was asked)"
    yield from _told("precision", f"{found.done}{asked}: {found.why}")
    if found.raised:
        yield from (line for i, text in enumerate(found.raised) for line in _told("" if i else "raised", text))
    elif found.search:
        yield from _told("search", found.search)
    yield from _output(found)
    yield from _weights(found)
    yield from _listed("edits", [f"line {e.line}: {e.field} {e.before} -> {e.after}" for e in found.edits], "none")
    yield from _listed("reads", map(_neighbour, found.reads), "constants only")
    yield from _listed("read by", map(_neighbour, found.read_by), "an output of the model")
    yield from _told("damage", _damage(found))
    if found.board:
        yield from _told("board", found.board)
    for finding in found.findings[:SHOWN]:
        yield from _told("finding", finding)
    for command in found.help[:SHOWN]:
        yield f"{'would help':<12}{command}"
    if not found.help:
        yield from _told("would help", "nothing need be done here")


def _damage(found: Explanation) -> str:
    if found.alone_db is None and found.inside_db is None:
        return "not measured: run step2 and step3"
    limit = found.blamed_below_db
    bound = "" if limit is None or found.alone_db is None else f" (to blame below {decibels(limit)})"
    return (
        f"{decibels(found.alone_db)} as the only quantized layer{bound}, {decibels(found.inside_db)} in the whole model"
    )


def _output(found: Explanation) -> Iterator[str]:
    values = found.values
    yield from _told("values", f"{values.seen[0]:.6g} .. {values.seen[1]:.6g} in calibration")
    if values.chosen is None or values.step is None:
        yield from _told("stored", f"{values.stored}, no step")
    else:
        ends = f"{values.chosen[0]:.6g} .. {values.chosen[1]:.6g}"
        told = f"{values.stored}: {ends} by {values.algorithm}, step {values.step:.6g}, zero point {values.zero_point}"
        yield from _told("stored", told)
    if values.shares:
        yield from _listed("shared with", [short(n, 40) for n in values.shares])


def _weights(found: Explanation) -> Iterator[str]:
    for one in found.weights[:SHOWN]:
        shape = "x".join(map(str, one.shape))
        told = f"{shape} in {one.range[0]:.4g} .. {one.range[1]:.4g}, {one.stored}"
        if one.scales is not None:
            per = f"{one.channels} scales {one.scales[0]:.3g} .. {one.scales[1]:.3g}"
            told += f" by {one.algorithm}, " + (per if one.channels > 1 else f"scale {one.scales[0]:.6g}")
        yield from _told("weights", told)


def _neighbour(one: Neighbour) -> str:
    return f"{short(one.name, 40)} ({one.precision}{f', {one.boundary}' if one.boundary else ''})"


def _listed(head: str, items: Iterable[str], none: str = "") -> Iterator[str]:
    """A few of ``items`` after their head, the rest counted."""
    told = list(items)
    rest = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    yield from _told(head, ", ".join(told[:SHOWN]) + rest if told else none)


def _told(head: str, text: str) -> list[str]:
    """A head in a column of its own, the text beside it, whole; of long names both ends are shown."""
    lines = textwrap.wrap(" ".join(short(word, LONG) for word in text.split()), COLUMNS - 12) or [""]
    return [f"{head if i == 0 else '':<12}{line}" for i, line in enumerate(lines)]


COMMANDS = (explain_, compare_)
