"""What the scripts of the tools share. Each runs in its tool's environment: ``by_TOOL.py MODEL FOLDER [OPTION ...]``.

FOLDER has ``calibration.npz`` and ``evaluation.npz``, one array an input, samples first, each with its batch axis. A
script leaves ``quantized.onnx`` there, or (``keep``) ``outputs.npz`` with every output of the evaluation samples.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Samples = list[dict[str, Any]]


def samples(folder: Path, part: str) -> Samples:
    """One dict of arrays a sample."""
    with np.load(folder / f"{part}.npz") as held:
        arrays = dict(held)
    return [{k: v[i] for k, v in arrays.items()} for i in range(len(next(iter(arrays.values()))))]


def keep(folder: Path, outputs: Sequence[Sequence[Any]]) -> None:
    """Leave what a simulator said: an array an output, in the model's order, samples first."""
    np.savez(folder / "outputs.npz", *(np.stack(one) for one in zip(*outputs, strict=True)))


def peak() -> float:
    """The most memory that this process held, in megabytes. Linux forgets there what its parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


def main(quantize: Callable[..., None]) -> None:
    """Call ``quantize(model, folder, *options)`` and write down what it cost: CPU seconds, memory at its peak."""
    model, folder, *options = sys.argv[1:]
    started = time.process_time()
    quantize(Path(model), Path(folder), *options)
    cost = {"seconds": time.process_time() - started, "megabytes": peak()}
    (Path(folder) / "cost.json").write_text(json.dumps(cost))
