"""``set``, ``unset``, ``list``, ``diff``: edit the cfg in place and keep its comments and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Column, Table

from hybridq.calibration.ranges import RangeAlgorithm
from hybridq.cli.flags import FOLDER, Talk, Words, common, row, talk
from hybridq.config import is_precision
from hybridq.steps import editing


@click.command("set")
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.argument("selector", nargs=-1, required=True, metavar="SELECTOR... [PRECISION]")
@click.option(
    "--param", multiple=True, metavar="NAME=VALUE", help="A field of the tensors: min=0, max=6, scale=0.05, ..."
)
@click.option("--algorithm", type=Words([str(a) for a in RangeAlgorithm]), help="How the tensors' ranges are chosen.")
@common
def set_(
    directory: Path,
    selector: tuple[str, ...],
    param: tuple[str, ...],
    algorithm: str | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Give the layers of each SELECTOR a precision, their tensors parameters, or both.

    \b
    hybridq set build conv1 op:Sigmoid int16
    hybridq set build op:Sigmoid float32
    hybridq set build "head/* and not op:Sigmoid" int16
    hybridq set build conv1 --param min=0 --param max=6
    hybridq set build "from:/22/cv2..to:output0" float32

    \b
    SELECTOR is a name, a glob, re:REGEX, op:TYPE, from:A..to:B (between two tensors), group:NAME, boundary,
    or a combination with and, or, not.
    """
    only_fields = bool(param or algorithm) and not (len(selector) > 1 and is_precision(selector[-1]))
    selectors, precision = (selector, None) if only_fields else (selector[:-1], selector[-1])
    if not selectors:
        raise click.UsageError("Give a PRECISION, --param or --algorithm.")
    params = dict(_pair(p) for p in param)
    voice = talk(quiet, verbose, as_json)
    tell(voice, editing.set_precision(directory, selectors, precision, params=params, algorithm=algorithm))


@click.command()
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.argument("selector", nargs=-1, required=True, metavar="SELECTOR...")
@common
def unset(directory: Path, selector: tuple[str, ...], quiet: bool, verbose: bool, as_json: bool) -> None:
    """Take back every edit of the layers of each SELECTOR.

    \b
    hybridq unset build conv1 op:Sigmoid
    hybridq unset build op:Sigmoid
    """
    tell(talk(quiet, verbose, as_json), editing.unset(directory, selector))


@click.command("list")
@click.argument("directory", type=FOLDER, metavar="DIR")
@common
def list_(directory: Path, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Show the layers: operator, shape, MACs, range, precision.

    \b
    hybridq list build
    hybridq list build --json
    """
    voice = talk(quiet, verbose, as_json)
    rows = editing.list_layers(directory)
    table = Table(Column("layer", overflow="fold"), "operator", "shape", "MACs", "min", "max", "precision")
    for each in rows:
        shown = {**each, "precision": f"weight_only {each['weight_only']}"} if each["weight_only"] else each
        row(table, *(_cell(shown.get(k)) for k in ("name", "op", "shape", "macs", "min", "max", "precision")))
    voice.say(table)
    voice.data(rows)


@click.command()
@click.argument("directory", type=FOLDER, metavar="DIR")
@common
def diff(directory: Path, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Show what was edited since step1 wrote the cfg.

    \b
    hybridq diff build
    """
    voice = talk(quiet, verbose, as_json)
    _edits(voice, editing.diff(directory))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--param {text}: write NAME=VALUE, such as min=0.")
    return name.strip(), value.strip()


def tell(voice: Talk, edited: editing.Edited) -> None:
    """What a command changed in the cfg, and remarks on it."""
    voice.problems(list(edited.change.problems))
    _edits(voice, edited.change.edits)


def _edits(voice: Talk, edits: Any) -> None:
    table = Table("line", "entry", "field", "before", "after")
    for edit in edits:
        row(table, str(edit.line or ""), edit.key, edit.field, edit.before, edit.after)
    voice.say(table if edits else "nothing is edited")
    fields = ("key", "field", "before", "after")
    voice.data([{"line": e.line or None} | {k: getattr(e, k) for k in fields} for e in edits])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value))
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


COMMANDS = (set_, unset, list_, diff)
