"""hybridq: its default, every layer in uint8, or a search."""

from __future__ import annotations

import shutil
from pathlib import Path

import common

import hybridq

SEARCHES = {"auto": {}, "fast": {"min_speedup": 1.0}}


def quantize(model: Path, folder: Path, how: str = "default") -> None:
    """``how``: default, uint8, auto or fast."""
    fed, out = common.samples(folder, "calibration"), folder / "build"
    if how in SEARCHES:
        hybridq.auto(model, fed, out, threads=1, seconds=0.1, **SEARCHES[how])
    else:
        hybridq.step1(model, fed, out, threads=1, **({"dtype": how} if how != "default" else {}))
        hybridq.step2(out, threads=1)
    shutil.copyfile(out / "hybrid.onnx", folder / "quantized.onnx")


common.main(quantize)
