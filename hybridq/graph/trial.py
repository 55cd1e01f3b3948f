"""A first run in a process of its own: ONNX Runtime can end the whole process, and that must not be ours.

The process is kept for the next trial, since to start one takes longer than to run most models. It ends with ours. The
module needs nothing of hybridq: the child runs it as a script, a trial a line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

WINDOWS_CRASH = 0xC0000000  # exit codes from here on are no program's own


def death(model: Path, feed: Mapping[str, NDArray[Any]], *, threads: int = 0) -> str:
    """What ended a process that loaded and ran ``model``, the signal's name as a rule; empty where nothing did.

    An exception is no death: whoever runs the model next gets the same one, with its words.
    """
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "feed.npz")
        np.savez(held, **{str(i): values for i, values in enumerate(feed.values())})  # type: ignore[arg-type]
        code = _child(os.getpid(), __file__).run(str(model.absolute()), str(held), threads, list(feed))
    if code:
        _child.cache_clear()
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code:#x}" if code >= WINDOWS_CRASH else ""


class _Child:
    """A process that runs models, one at a time."""

    def __init__(self, script: str) -> None:
        command = [sys.executable, script]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.lock = Lock()
        weakref.finalize(self, _end, self.process)

    def run(self, *trial: Any) -> int:
        """0 where the process lives on, otherwise the code that it ended with."""
        with self.lock:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            try:
                self.process.stdin.write(json.dumps(trial) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                return self.process.wait()
            return 0 if self.process.stdout.readline() else self.process.wait()


@lru_cache(maxsize=1)
def _child(owner: int, script: str) -> _Child:
    """The process of this one: ``owner`` is its number, since a fork of it needs another child."""
    return _Child(script)


def _end(process: subprocess.Popen[str]) -> None:
    """Let the child come to the end of its lines."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # it may have died with a line unread
                pipe.close()
    process.wait()


def _serve() -> None:
    """Run a trial a line and answer each with a line; what a model prints is not among them."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        with suppress(Exception):  # no death
            _run(*json.loads(line))
        answers.write("\n")
        answers.flush()


def _run(model: str, held: str, threads: int, names: list[str]) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(held) as values:
        session.run(None, {name: values[str(i)] for i, name in enumerate(names)})


if __name__ == "__main__":
    _serve()
