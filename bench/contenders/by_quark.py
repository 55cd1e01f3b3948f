"""AMD Quark's quantizer of ONNX models: its configuration A8W8, 8 bits with scales of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
from quark.onnx import A8W8_QCONFIG, CalibrationDataReader, ModelQuantizer


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """One sample after another."""

    def __init__(self, fed: common.Samples) -> None:
        self.left = iter(fed)

    def get_next(self) -> dict[str, Any] | None:
        """The next sample; None at the end."""
        return next(self.left, None)


def quantize(model: Path, folder: Path) -> None:
    """All calibration samples."""
    ModelQuantizer(A8W8_QCONFIG).quantize_model(
        str(model), str(folder / "quantized.onnx"), Reader(common.samples(folder, "calibration"))
    )


common.main(quantize)
