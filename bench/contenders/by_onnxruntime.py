"""ONNX Runtime's ``quantize_static``: QDQ, uint8 activations, int8 weights per channel, after its own preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    """One sample after another."""

    def __init__(self, fed: common.Samples) -> None:
        self.left = iter(fed)

    def get_next(self) -> dict[str, Any] | None:
        """The next sample; None at the end."""
        return next(self.left, None)


def quantize(model: Path, folder: Path, method: str) -> None:
    """``method``: MinMax or Entropy."""
    ready = folder / "ready.onnx"
    quant_pre_process(model, ready, skip_symbolic_shape=True)
    quantize_static(
        ready,
        folder / "quantized.onnx",
        Reader(common.samples(folder, "calibration")),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
    )


common.main(quantize)
