"""The group of commands, and what every command does with errors."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from typing import Any

import click

from hybridq import __version__
from hybridq.cli import (
    cfg_commands,
    exchange_commands,
    faults,
    folder_commands,
    report_commands,
    search_commands,
    step_commands,
)
from hybridq.cli.flags import AS_JSON
from hybridq.cli.grouped import summed
from hybridq.cli.terminal import (
    Terminated,
    echo,
    ended_by_signals,
    give_up_output,
    is_lost_output,
    need_output,
    prepare_streams,
    shown_json,
)
from hybridq.config import to_json
from hybridq.errors import HybridqError, OptionError
from hybridq.execution.versions import versions
from hybridq.files.reading import said
from hybridq.graph import runtime
from hybridq.graph.runtime import RuntimeModelError

GROUPS = {
    "The steps": ["step1", "check", "step2", "step3", "step4", "demo"],
    "All in one": ["auto"],
    "Editing the cfg": ["set", "unset", "list", "diff", "import"],
    "Looking closer": ["explain", "compare"],
    "Folders": ["upgrade", "bundle"],
}

NOT_OURS = (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError)  # click knows what to do

WRITES_IN_PARTS = ("auto", "check", "demo", "step4")  # what came before the problem stays


def tell_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the version, as JSON with those of all that hybridq computes with, and end."""
    if not asked or ctx.resilient_parsing:
        return
    click.echo(json.dumps(versions(), indent=2) if ctx.params.get("as_json") else f"hybridq, version {__version__}")
    ctx.exit()


class Commands(click.Group):
    """Commands in the order of the work, and errors as located messages."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for."""
        for title, names in GROUPS.items():
            rows = [(n, self.commands[n].get_short_help_str(90)) for n in names if n in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click has it; where what is printed cannot be written (a full disk), it is said, with exit code 1."""
        prepare_streams()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            give_up_output()
            with contextlib.suppress(OSError):  # nobody listens at all
                echo(f"standard output: cannot be written: {said(error)}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; wrong input ends with exit code 1 and problems, a fault of ours with what to send."""
        try:
            with ended_by_signals():
                found = super().invoke(ctx)
                need_output()
                return found
        except OptionError as error:
            raise click.UsageError(str(error)) from error
        except HybridqError as error:
            foreseen = faults.of_runtime(error) if isinstance(error, RuntimeModelError) else error
        except KeyboardInterrupt as error:
            echo("interrupted; every file is whole, as before or as finished", err=True)
            ctx.exit(error.code if isinstance(error, Terminated) else 130)
        except NOT_OURS:
            raise
        except Exception as error:
            if is_lost_output(error):
                raise
            foreseen = faults.unforeseen(error)
        _report(foreseen, ctx.invoked_subcommand or "", ctx.meta.get(AS_JSON, False))
        return ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--version", "version", is_flag=True, callback=tell_version, expose_value=False, help="Show the version.")
@click.option(
    "--json", "as_json", is_flag=True, is_eager=True, help="With --version: all that a report of a fault needs."
)
def main(as_json: bool) -> None:
    """Find the layers of an ONNX model that 8 bits break, give them more bits, prove it.

    \b
    hybridq step1 model.onnx --dataset dataset.txt -o build/   calibrate
    $EDITOR build/model.quantization.cfg                       float32 / int16 / uint8, layer by layer
    hybridq step2 build/                                       validate and build build/hybrid.onnx
    hybridq step3 build/ --dataset eval.txt                    compare float32 with hybrid
    hybridq step4 build/ --to rknn2                            hand the result to another toolchain
    """
    if as_json:
        raise click.UsageError("--json goes with --version here, or behind a command: `hybridq list DIR --json`")


def _report(error: HybridqError, command: str, as_json: bool) -> None:
    """Print every problem; as JSON where the command was asked for it."""
    if as_json:
        click.echo(shown_json(json.dumps(to_json(error.problems), indent=2, ensure_ascii=False)))
        return
    for problem in error.problems if runtime.is_verbose() else summed(error.problems):
        prefix = "" if problem.severity == "error" else f"{problem.severity}: "
        echo(f"{prefix}{problem}", err=True)
        if problem.detail and runtime.is_verbose():
            echo(textwrap.indent(problem.detail, "    "), err=True)
    wrong = sum(p.severity == "error" for p in error.problems)
    kept = "." if command in WRITES_IN_PARTS else "; nothing was written."
    click.echo(f"{wrong} problem{'s' if wrong != 1 else ''} found{kept}", err=True)


for command in (
    *step_commands.COMMANDS,
    *exchange_commands.COMMANDS,
    *search_commands.COMMANDS,
    *cfg_commands.COMMANDS,
    *report_commands.COMMANDS,
    *folder_commands.COMMANDS,
):
    main.add_command(command)
