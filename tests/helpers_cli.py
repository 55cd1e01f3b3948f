"""What tests of the command line share: a small model in a folder of its own, and what a command left behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CFG = "model.quantization.cfg"
RANDOM = np.random.default_rng(0)


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


def small_model() -> onnx.ModelProto:
    """A convolution with Relu, global pooling, a matrix product, Softmax: 3x8x8 in, 4 scores out."""
    weights = {
        "w": RANDOM.normal(size=(8, 3, 3, 3)),
        "b": RANDOM.normal(size=8),
        "m": RANDOM.normal(size=(8, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["conv"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["logits"], name="head"),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def snapshot(folder: Path) -> dict[str, str]:
    """The digest of every file."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def edit(folder: Path, layers: str) -> Path:
    """Write ``layers`` into the cfg as a person would."""
    cfg = folder / "build" / CFG
    text = cfg.read_text(encoding="utf-8")
    assert "\ncustomized_quantize_layers: {}\n" in text
    replaced = text.replace("customized_quantize_layers: {}", f"customized_quantize_layers: {layers}")
    cfg.write_text(replaced, encoding="utf-8")
    return cfg
