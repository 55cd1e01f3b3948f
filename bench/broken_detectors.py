"""A trained detector that 8 bits break by its shared output tensor, and what a search makes of it, target by target.

    python bench/broken_detectors.py [rknn2 tensorrt onnxruntime]

It is the demo's, with boxes and scores in one tensor, every layer in 8 bits; as given and with a free batch. Prints
AP50 of the float model, of all 8 bits, and of what ``auto`` finds at its default budget without a metric; what is
wanted is 97 % of float's. CPU seconds are of ``auto`` with one thread.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

import hybridq
from hybridq import demo
from hybridq.demo.data import OUTPUT
from hybridq.demo.score import detections, mean_ap50
from hybridq.graph import runtime

TARGETS: dict[str, dict[str, Any]] = {"onnxruntime": {"dtype": "uint8"}, "rknn2": {}, "tensorrt": {}}


def ap50(model: Path) -> float:
    session, pairs = runtime.session(model, threads=1), demo.evaluation()
    found = [detections({OUTPUT: runtime.run(session, feed)[0]}) for feed, _ in pairs]
    return mean_ap50(found, [truth for _, truth in pairs])


def detector(path: Path, *, free: bool) -> Path:
    """The demo's detector, with a free batch if that is asked for."""
    proto = onnx.load(demo.model_path())
    if free:
        del proto.graph.value_info[:]
        for held in (*proto.graph.input, *proto.graph.output):
            held.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(proto, path)
    return path


def told(target: str, *, free: bool, folder: Path) -> str:
    path, feeds = detector(folder / "m.onnx", free=free), [feed for feed, _ in demo.calibration()][::2]
    options = {"target": target, "threads": 1, **TARGETS[target]}
    hybridq.step1(path, feeds, folder / "plain", **options)
    hybridq.step2(folder / "plain", threads=1)
    began = time.process_time()
    found = hybridq.auto(path, feeds, folder / "auto", seconds=0, **options).found
    took = time.process_time() - began
    plain, auto = (ap50(folder / name / "hybrid.onnx") for name in ("plain", "auto"))
    raised = f"{len(found.layers)} layers raised, {found.figures.high:.3f} of the MACs"
    return (
        f"{target:12} {'free batch' if free else 'as given':10} float {ap50(path):.3f}, all 8 bits {plain:.3f}, "
        f"auto {auto:.3f}, {raised}, {took:.0f} CPU s"
    )


def main() -> None:
    for target in sys.argv[1:] or TARGETS:
        for free in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                print(told(target, free=free, folder=Path(folder)), flush=True)


if __name__ == "__main__":
    main()
