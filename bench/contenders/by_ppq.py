"""ESP-PPQ's quantizer for the ESP32-P4: int8, scales that are powers of two, simulated in PyTorch."""

from __future__ import annotations

from pathlib import Path

import common
import torch
from esp_ppq.api import espdl_quantize_onnx
from esp_ppq.executor import TorchExecutor


def quantize(model: Path, folder: Path) -> None:
    """The simulation's outputs."""
    fed = common.samples(folder, "calibration")
    (name,) = fed[0]
    made = espdl_quantize_onnx(
        str(model),
        str(folder / "made.espdl"),
        calib_dataloader=[torch.from_numpy(one[name]) for one in fed],
        calib_steps=len(fed),
        input_shape=list(fed[0][name].shape),
        target="esp32p4",
        num_of_bits=8,
        device="cpu",
        error_report=False,
        skip_export=True,
        verbose=0,
    )
    executor = TorchExecutor(graph=made, device="cpu")
    evaluation = common.samples(folder, "evaluation")
    common.keep(folder, [[o.numpy() for o in executor(torch.from_numpy(one[name]))] for one in evaluation])


common.main(quantize)
