"""A first run in a process of its own: ONNX Runtime can end the whole process, and that must not be ours.

The module needs nothing of hybridq, since the child runs it as a script.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
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
        command = [sys.executable, __file__, str(model), str(held), str(threads), *feed]
        code = subprocess.run(command, capture_output=True, check=False).returncode
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code:#x}" if code >= WINDOWS_CRASH else ""


def _run(model: str, held: str, threads: str, *names: str) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(held) as values:
        session.run(None, {name: values[str(i)] for i, name in enumerate(names)})


if __name__ == "__main__":
    _run(*sys.argv[1:])
