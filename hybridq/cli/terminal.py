"""The terminal: it gets what it can show, and nothing in a name can steer it."""

from __future__ import annotations

import contextlib
import errno
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

NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EPIPE, errno.EIO)


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
    """Let streams write what their encoding has and escape the rest, instead of failing at a name.

    A stream that was closed is one that cannot be written: else the next file that is opened would take its number,
    and get what is printed.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            _replace_closed(number, name)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a stream of a test
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _replace_closed(number: int, name: str) -> None:
    with contextlib.suppress(OSError):
        opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8"))


def need_output() -> None:
    """Write out what waits for standard output. Raises OSError where it cannot be: a full disk, a closed pipe."""
    with contextlib.suppress(ValueError):  # closed
        sys.stdout.flush()


def is_lost_output(error: Exception) -> bool:
    """Whether an error is that of printing; one of files has a name, or our words already."""
    return isinstance(error, OSError) and error.filename is None and error.errno in NO_OUTPUT


def give_up_output() -> None:
    """Let what still waits for standard output go nowhere, so that it does not fail once more at the end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        need_output()
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
