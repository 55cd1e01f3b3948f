"""``upgrade``: a folder of an earlier format; ``bundle``: what a report of a fault needs."""

from __future__ import annotations

from pathlib import Path

import click

from hybridq.cli.flags import FILE, FOLDER, common, counted, talk
from hybridq.steps.bundle import bundle
from hybridq.steps.upgrade import upgrade


@click.command("upgrade")
@click.argument("directory", type=FOLDER, metavar="DIR")
@common
def upgrade_(directory: Path, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Make a folder of an earlier format one of today's; what was measured and edited stays.

    \b
    hybridq upgrade build

    Results of step2 and step3 are removed with it: run them again.
    """
    voice = talk(quiet, verbose, as_json)
    found = upgrade(directory)
    kept = counted(found.edits, "edit")
    if found.changed:
        voice.say(f"{directory} is of today's format; {kept} kept; next: hybridq step2 {directory}")
    else:
        voice.say(f"{directory} is of today's format already, with {kept}")
    voice.data({"changed": found.changed, "removed": list(found.void), "edits": found.edits})


@click.command("bundle")
@click.argument("directory", type=FOLDER, metavar="DIR")
@click.option("-o", "--out", type=FILE, help="The file to write.  [default: DIR-bundle.zip beside DIR]")
@click.option("--weights", is_flag=True, help="Put the weights and the first calibration sample in as well.")
@common
def bundle_(directory: Path, out: Path | None, weights: bool, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Put into one file what a report of a fault needs: cfg, graph without weights, figures, versions.

    \b
    hybridq bundle build
    hybridq bundle build --weights      only where you may give them away

    No weight, sample, path, host or user is in it unless you ask for it. Names of layers and ranges of tensors are:
    look before you send it.
    """
    voice = talk(quiet, verbose, as_json)
    found = bundle(directory, out, weights=weights)
    voice.say(f"wrote {found.path}: {', '.join(found.names)}")
    voice.data({"path": str(found.path), "names": list(found.names)})


COMMANDS = (upgrade_, bundle_)
