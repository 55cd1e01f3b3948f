"""The terminal: it gets what it can show, and nothing in a name can steer it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Control characters but for line ends and tabs, and those that turn the direction of writing.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    r"""Text with control characters as ``\x1b``, so that a name can neither clear a terminal nor write its title."""
    return STEERING.sub(lambda found: repr(found[0])[1:-1], text)


def shown_json(text: str) -> str:
    """JSON whose strings hold no control character as it is: the same value, escaped."""
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """``click.echo`` of text that may hold somebody's names."""
    click.echo(shown(text), err=err, nl=nl)


class SafeConsole(Console):
    """A console that shows control characters in what it is given, and sends only its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of text, made harmless."""
        for one in super().render(renderable, options):
            yield one if one.control or not STEERING.search(one.text) else Segment(shown(one.text), one.style)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: a stopped job, a closed terminal. Ends like Ctrl-C, with the shell's code for the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Meanwhile SIGTERM and SIGHUP raise ``Terminated``, so that what is written is finished or discarded."""

    def end(number: int, _frame: object) -> None:
        raise Terminated(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare_streams() -> None:
    """Let streams write what their encoding has and escape the rest, instead of failing at a name."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream of a test, or one that was closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def finish_output() -> OSError | None:
    """Write out what waits for standard output; the error where it cannot be (a full disk), and then no second one."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    except ValueError:  # closed
        return None
    return None
