"""In RKNN-Toolkit2's environment: a model by its own two steps, with a cfg that a person edited between them.

``rknn2_edited.py step1 MODEL DATASET FOLDER [ALGORITHM]`` writes FOLDER/NAME.quantization.cfg;
``rknn2_edited.py step2 FOLDER NAME CFG SAMPLES.npz OUT.npz`` builds with CFG and runs the simulator on every sample.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from rknn.api import RKNN


def toolkit(algorithm: str, log: str = "") -> RKNN:
    """The toolkit, configured."""
    words = {"verbose": True, "verbose_file": log} if log else {"verbose": False}
    rknn = RKNN(**words)
    rknn.config(target_platform="rk3588", quantized_algorithm=algorithm)
    return rknn


def step1(model: str, dataset: str, folder: str, algorithm: str = "normal") -> None:
    """The toolkit's step 1."""
    model, dataset = str(Path(model).resolve()), str(Path(dataset).resolve())
    os.chdir(folder)
    rknn = toolkit(algorithm)
    if rknn.load_onnx(model=model) or rknn.hybrid_quantization_step1(dataset=dataset) not in (0, None):
        raise SystemExit("the toolkit's step 1 failed")


def step2(folder: str, name: str, cfg: str, samples: str, out: str, algorithm: str = "normal") -> None:
    """The toolkit's step 2, and its simulator's outputs as ``INDEX|NUMBER``."""
    cfg, samples, out = (str(Path(p).resolve()) for p in (cfg, samples, out))
    os.chdir(folder)
    rknn = toolkit(algorithm, "step2.log")
    files = {"model_input": f"{name}.model", "data_input": f"{name}.data"}
    if rknn.hybrid_quantization_step2(model_quantization_cfg=cfg, **files) not in (0, None):
        raise SystemExit("the toolkit's step 2 failed")
    rknn.init_runtime(target=None)
    found = {}
    with np.load(samples) as held:
        for number, key in enumerate(sorted(held.files)):
            for index, output in enumerate(rknn.inference(inputs=[held[key]], data_format=["nchw"])):
                found[f"{index}|{number:04d}"] = output
    np.savez(out, **found)


if __name__ == "__main__":
    {"step1": step1, "step2": step2}[sys.argv[1]](*sys.argv[2:])
