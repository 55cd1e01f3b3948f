"""AIMET-ONNX's simulation: uint8 activations, int8 weights, its default configuration and ranges."""

from __future__ import annotations

from pathlib import Path

import common
import onnx
from aimet_onnx.quantsim import QuantizationSimModel


def quantize(model: Path, folder: Path) -> None:
    """The simulation's outputs."""
    sim = QuantizationSimModel(onnx.load(model), param_type="int8", activation_type="int8")
    sim.compute_encodings(common.samples(folder, "calibration"))
    common.keep(folder, [sim.session.run(None, fed) for fed in common.samples(folder, "evaluation")])


common.main(quantize)
