"""``step4`` and ``import``: other toolchains' files, out and in."""

from __future__ import annotations

from pathlib import Path

import click

from hybridq import steps
from hybridq.cli.cfg_commands import tell
from hybridq.cli.flags import FILE, FOLDER, Talk, Words, common, counted, talk
from hybridq.cli.grouped import groups, summed
from hybridq.config import to_json
from hybridq.errors import Problem
from hybridq.exchange.formats import FORMATS, READABLE

SHOWN = 40  # lines of what was lost before the rest is counted
strict_flag = click.option("--strict", is_flag=True, help="Exit with 1 where anything could not be expressed.")


@click.command()
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.option(
    "--to", required=True, type=Words(list(FORMATS)), metavar="FORMAT", help="A toolchain's format, of the list above."
)
@click.option("-o", "--out", type=FILE, help="A file, or a folder for several files.  [default: DIR/export/FORMAT]")
@click.option("--only-io", is_flag=True, help="rknn1-params: model inputs and outputs alone.")
@click.option("--force", is_flag=True, help="Replace what stands at -o.")
@strict_flag
@common
def step4(
    directory: Path,
    to: str,
    out: Path | None,
    only_io: bool,
    force: bool,
    strict: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Hand the result to another toolchain: layer choices, ranges and parameters in its own format.

    What the format cannot say is listed line by line, and how far the result can differ.

    \b
    hybridq step4 build --to rknn2 -o for_rknn      then there: python convert.py
    hybridq step4 build --to aimet-1.0.0 -o yolo.encodings
    hybridq step4 build --to tensorrt-cache --strict

    \b
    FORMAT: rknn2, rknn1, rknn1-params, aimet-0.6.1, aimet-1.0.0, aimet-2.0.0, tensorrt-cache, tensorrt-ranges,
    tensorrt-precisions, tflite-params, ort-overrides, openvino, ncnn, mnn, tpu-mlir, nncase, pulsar2, esp-ppq, litert,
    onnx-float, json, csv.
    """
    voice = talk(quiet, verbose, as_json)
    result = steps.step4(directory, to, out, only_io=only_io, force=force, strict=strict)
    voice.problems(result.problems)
    _tell_lost(voice, result.losses, "cannot be expressed")
    voice.say(f"wrote {result.path}" + (f" ({_names(result)})" if len(result.files) > 1 else ""))
    for word, line in zip(("next: ", *["then: "] * len(result.next)), result.next, strict=False):
        voice.say(f"{word}{line}")
    losses = to_json(result.losses)
    voice.data(
        {"path": str(result.path), "files": [str(p) for p in result.files], "losses": losses, "next": list(result.next)}
    )


@click.command("import")
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.argument("file", type=FILE)
@click.option(
    "--from", "source", type=Words(READABLE), metavar="FORMAT", help="The file's format.  [default: as it looks]"
)
@strict_flag
@common
def import_(
    directory: Path, file: Path, source: str | None, strict: bool, quiet: bool, verbose: bool, as_json: bool
) -> None:
    """Take layer choices, ranges and parameters from another toolchain's file for the same model into the cfg of DIR.

    \b
    hybridq import build yolo.quantization.cfg      written by RKNN-Toolkit 1.7 or RKNN-Toolkit2
    hybridq import build yolo.encodings             written by AIMET
    """
    voice = talk(quiet, verbose, as_json)
    edited, left = steps.import_file(directory, file, source, strict=strict)
    _tell_lost(voice, left, "could not be mapped")
    taken, rest = counted(len(edited.change.edits), "edit"), counted(len(left), "line")
    voice.say(f"{taken} taken over, {rest} could not be mapped")
    tell(voice, edited)


def _names(result: steps.Step4Result) -> str:
    """The files that were written, those of a folder within as one."""
    inside = [p.relative_to(result.path) for p in result.files]
    told = [str(p) for p in inside if len(p.parts) == 1]
    within = groups((p for p in inside if len(p.parts) > 1), lambda p: p.parts[0])
    return ", ".join([*told, *(f"{counted(len(some), 'file')} in {some[0].parts[0]}/" for some in within)])


def _tell_lost(voice: Talk, lost: list[Problem], what: str) -> None:
    """The lines on stderr, those of a kind in one, a count for the rest of many; with --verbose all."""
    lines = lost if voice.verbose else summed(lost)
    most = len(lost) if voice.verbose else SHOWN
    voice.problems(lines[:most], whole=True)
    if len(lines) > most and not voice.quiet:
        voice.problems([Problem(f"{len(lines) - most} more lines {what}; --verbose has all", severity="note")])


COMMANDS = (step4, import_)
