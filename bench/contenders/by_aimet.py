"""AIMET-ONNX's simulation: uint8 activations, int8 weights, its default configuration and ranges."""

from __future__ import annotations

from pathlib import Path

import common
import numpy as np
import onnx
from aimet_onnx.quantsim import QuantizationSimModel


def quantize(model: Path, folder: Path) -> None:
    """The simulation's outputs."""
    sim = QuantizationSimModel(onnx.load(model), param_type="int8", activation_type="int8")
    sim.compute_encodings(common.samples(folder, "calibration"))
    outputs = [sim.session.run(None, fed)[0] for fed in common.samples(folder, "evaluation")]
    np.savez(folder / "outputs.npz", first=np.stack(outputs))


common.main(quantize)
