"""A folder as the documents speak of it: yolo.onnx, its lists of samples, a score, and what other tools wrote."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIZE = 16
SCORE = """
def map50(outputs):
    return -sum(float(abs(o["output0"]).mean()) for o in outputs)

ap50 = accuracy = map50
"""


def stand_in() -> onnx.ModelProto:
    """A detector of sorts, a few kilobytes, with every layer name that the documents mention."""
    random = np.random.default_rng(7)
    weights = {
        "w1": random.normal(size=(8, 3, 3, 3)) * 0.3,
        "w2": random.normal(size=(6, 8, 3, 3)) * 0.2,
        "w3": random.normal(size=(6, 8, 3, 3)) * 0.2,
        "w4": random.normal(size=(6, 6, 1, 1)),
        "w5": random.normal(size=(8, 12, 1, 1)) * 0.3,
        "w6": random.normal(size=(4, 8, 1, 1)),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w1"], ["conv1_raw"], "first", pads=[1, 1, 1, 1]),
        node("Relu", ["conv1_raw"], ["conv1"]),
        node("Conv", ["conv1", "w2"], ["/22/cv2"], pads=[1, 1, 1, 1]),
        node("Conv", ["conv1", "w3"], ["/22/cv3"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["/22/cv3"], ["/model.22/Sigmoid"]),
        node("Conv", ["/22/cv2", "w4"], ["head/boxes"]),
        node("Concat", ["head/boxes", "/model.22/Sigmoid"], ["head/cat"], axis=1),
        node("Conv", ["head/cat", "w5"], ["/model.22/cv2/conv"]),
        node("Conv", ["/model.22/cv2/conv", "w6"], ["cls_8"]),
        node("Softmax", ["cls_8"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "stand_in",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4, SIZE, SIZE])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def furnish(folder: Path) -> None:
    """Write everything but what hybridq writes itself."""
    random = np.random.default_rng(11)
    for name in ("yolo.onnx", "model.onnx"):
        onnx.save(stand_in(), folder / name)
    (folder / "images").mkdir()
    names = [f"street_{i:03}.png" for i in range(1, 9)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(folder / "images" / name)
    listed = "".join(f"images/{name}\n" for name in names)
    for name in ("dataset.txt", "d.txt", "eval.txt"):
        (folder / name).write_text(listed)
    (folder / "score.py").write_text(SCORE)
    (folder / "labels.txt").write_text("0 " * len(names))


def load(folder: str, name: str) -> ModuleType:
    """A script of the project as a module; what lies beside it can be imported by it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / folder)
        return importlib.import_module(name)
