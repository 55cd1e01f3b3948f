"""Options that several commands share, and the context they make."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from hybridq.cli.grouped import summed
from hybridq.cli.terminal import SafeConsole, shown_json
from hybridq.errors import OptionError, Problem
from hybridq.graph import runtime
from hybridq.graph.watch import WATCH
from hybridq.quant.words import no_such_word
from hybridq.steps.options.validation import AnyText, Extent, Flag, Named, Number, OneWord, Option, OptionKind, Values

F = TypeVar("F", bound=Callable[..., Any])
LOG_SECONDS = 10.0  # between lines of progress where stderr is no terminal
AS_JSON = "hybridq.json"  # key in click's context


class NamedPath(click.Path):
    """A path that has a name: an empty one is an unset variable of a script, not the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse ``''``, and names that are no text, which ONNX Runtime does not open."""
        if value == "":
            self.fail("an empty name; is a variable of your script unset?", param, ctx)
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            self.fail(f"the name {value!a} is no UTF-8", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = NamedPath(file_okay=False, path_type=Path)
FILE = NamedPath(path_type=Path)


def _width() -> int | None:
    """Columns of a table: the terminal's or $COLUMNS; into a pipe enough for any name."""
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else 240


@dataclass
class Talk:
    """How a command speaks: tables on stdout, messages and progress on stderr, JSON alone on stdout with --json."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    out: Console = field(default_factory=lambda: SafeConsole(highlight=False, width=_width()))
    err: Console = field(default_factory=lambda: SafeConsole(stderr=True, highlight=False))
    _bar: Progress | None = None
    _task: TaskID | None = None
    _what: str = ""
    _began: float = field(default_factory=time.monotonic)
    _state: str = ""
    _beat: threading.Event | None = None

    def say(self, text: Any = "") -> None:
        """Print for people; silent with --quiet and --json."""
        if not self.quiet and not self.json:
            self.out.print(text, soft_wrap=isinstance(text, str), markup=False)

    def problems(self, found: list[Problem], *, whole: bool = False) -> None:
        """Print warnings and notes on stderr: the ``whole`` list, or one for many of a kind."""
        if not self.quiet:
            for problem in found if whole or self.verbose else summed(found):
                self.err.print(f"{problem.severity}: {problem}", markup=False, soft_wrap=True)

    def data(self, value: Any) -> None:
        """Print JSON for programs (--json)."""
        if self.json:
            click.echo(shown_json(json.dumps(value, indent=2, ensure_ascii=False)))

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Show how far a step is, where stderr is a terminal."""
        if self.quiet or self.json:
            return
        if not sys.stderr.isatty():
            self._log(what, done, total)
            return
        if self._bar is None:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]}")
            self._bar = Progress(
                *columns, rate, TimeElapsedColumn(), TimeRemainingColumn(), console=self.err, transient=True
            )
            self._bar.start()
        doing = what.partition(" (")[0]  # in brackets: how it stands
        if doing != self._what or self._task is None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._what, self._task = doing, self._bar.add_task(what, total=total, rate="")
        speed = self._bar.tasks[0].speed
        pace = f"{speed:.1f}/s" if speed else ""
        self._bar.update(self._task, description=what, completed=done, total=total, rate=pace)

    def _log(self, what: str, done: int, total: int | None) -> None:
        """A line every so many seconds, for who reads a file while it grows, however long one thing takes."""
        self._state = what + (f", {done} of {total}" if total else f", {done} so far" if done else "")
        if self._beat is None:
            self._beat = threading.Event()
            threading.Thread(target=self._lines, args=(self._beat,), daemon=True).start()

    def _lines(self, ended: threading.Event) -> None:
        while not ended.wait(LOG_SECONDS):
            print(f"{time.monotonic() - self._began:.0f} s: {self._state}", file=sys.stderr, flush=True)  # noqa: T201

    def done(self) -> None:
        """Take the progress bar away."""
        if self._beat is not None:
            self._beat.set()
            self._beat = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def common(command: F) -> F:
    """``--quiet --verbose --json``."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.", callback=_remember)(
        command
    )
    command = click.option("--verbose", is_flag=True, help="Show every line, and ONNX Runtime's own warnings.")(command)
    return click.option("--quiet", is_flag=True, help="Print errors only.")(command)


def _remember(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    """Let the group know, which prints the problems of a command that failed."""
    context.meta[AS_JSON] = value
    return value


class Words(click.Choice[str]):
    """One of several words; a wrong one is answered with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word. Raises OptionError that says which there are."""
        if value in self.choices:
            return value
        raise no_such_word(value, self.choices, param.opts[-1] if param else "the word")


class CommaNames(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes none
    """``A,B``."""

    name = "A,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The names. Raises OptionError where there are none."""
        if not isinstance(value, str):
            return value
        if not (found := names(value)):
            raise OptionError(f"{param.opts[-1] if param else 'the option'} names nothing", hint="Write A,B.")
        return found


def declared(one: Option) -> Callable[[F], F]:
    """The option of the command line for an option of a step."""
    flag, kind = f"--{one.name.replace('_', '-')}", one.kind
    if isinstance(kind, Flag):
        return click.option(flag, is_flag=True, help=kind.help)
    if isinstance(kind, Values):
        return click.option(flag, multiple=True, help=kind.help, metavar=kind.form)
    if isinstance(kind, AnyText):
        return click.option(flag, help=kind.help, metavar=kind.form)
    if isinstance(kind, Extent):
        return click.option(flag, metavar="HxW", help=kind.help)
    shown, default = one.default not in (None, ()), one.default
    default = str(default) if isinstance(kind, OneWord) and shown else default
    return click.option(flag, type=_type(kind), default=default, show_default=shown, help=kind.help)


def _type(kind: OptionKind) -> Any:
    if isinstance(kind, Number):
        low, high = (None if math.isinf(x) else x for x in (kind.low, kind.high))
        if kind.whole:
            return click.IntRange(None if low is None else int(low), None if high is None else int(high))
        return click.FloatRange(low, high, min_open=kind.above)
    if isinstance(kind, (OneWord, Named)):
        return Words(kind.words)
    return CommaNames()


def threads(command: F) -> F:
    """``--threads N``."""
    return click.option(
        "--threads", type=click.IntRange(0), default=0, show_default="all cores", help="Threads of ONNX Runtime."
    )(command)


def talk(quiet: bool, verbose: bool, as_json: bool) -> Talk:
    """How this command speaks."""
    runtime.set_verbose(verbose)
    found = Talk(quiet, verbose, as_json)
    WATCH.tell = None if quiet else lambda text: found.err.print(f"note: {text}", markup=False, soft_wrap=True)
    return found


def row(table: Table, *cells: str) -> None:
    """Add a row whose cells are shown as they are: a name may hold ``[bold]``."""
    table.add_row(*(Text(cell) for cell in cells))


def counted(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def names(text: str | None) -> tuple[str, ...]:
    """``A,B`` as names."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
