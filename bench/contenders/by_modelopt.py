"""NVIDIA ModelOpt's quantizer of ONNX models: int8, its default ranges (entropy)."""

from __future__ import annotations

from pathlib import Path

import common
import numpy as np
from modelopt.onnx.quantization import quantize as quantized


def quantize(model: Path, folder: Path) -> None:
    """All calibration samples in one array an input, as it wants them."""
    fed = common.samples(folder, "calibration")
    together = {name: np.concatenate([one[name] for one in fed]) for name in fed[0]}
    quantized(
        str(model),
        "int8",
        calibration_data=together,
        calibration_eps=["cpu"],
        output_path=str(folder / "quantized.onnx"),
    )


common.main(quantize)
