"""NNCF's post-training quantization of ONNX models, at its defaults."""

from __future__ import annotations

from pathlib import Path

import common
import nncf
import onnx


def quantize(model: Path, folder: Path) -> None:
    """All calibration samples."""
    fed = common.samples(folder, "calibration")
    made = nncf.quantize(onnx.load(model), nncf.Dataset(fed), subset_size=len(fed))
    onnx.save(made, folder / "quantized.onnx")


common.main(quantize)
