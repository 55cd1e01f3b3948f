"""RKNN-Toolkit2's quantizer for the RK3588 in its own simulator: int8, its default algorithm."""

from __future__ import annotations

from pathlib import Path

import common
import numpy as np
from rknn.api import RKNN


def quantize(model: Path, folder: Path) -> None:
    """The simulator's outputs."""
    lines = []
    for number, one in enumerate(common.samples(folder, "calibration")):
        for name, value in one.items():
            np.save(folder / f"{number}-{name}.npy", value)
        lines.append(" ".join(str(folder / f"{number}-{name}.npy") for name in one))
    (folder / "dataset.txt").write_text("\n".join(lines) + "\n")
    rknn = RKNN(verbose=False)
    rknn.config(target_platform="rk3588")
    for done in (
        rknn.load_onnx(model=str(model)),
        rknn.build(do_quantization=True, dataset=str(folder / "dataset.txt")),
        rknn.init_runtime(),
    ):
        if done:
            raise SystemExit("the toolkit refuses")
    evaluation = common.samples(folder, "evaluation")
    common.keep(folder, [rknn.inference(inputs=list(one.values()), data_format="nchw") for one in evaluation])


common.main(quantize)
