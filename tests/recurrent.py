"""Recurrent models for tests: a gated unit written out, whose state goes round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FRAME, UNITS = 6, 8
Array = NDArray[np.float32]


def cell(*, state: str = "h", output: str = "hn", seed: int = 0, units: int = UNITS) -> onnx.ModelProto:
    """``z = sigmoid([x, h] Wz + bz)``, ``n = tanh([x, h] Wn + bn)``, ``hn = n + z (h - n)``, ``y = hn Wy + by``."""
    random = np.random.default_rng(seed)
    held = {
        "wz": random.normal(size=(FRAME + units, units)) * 0.6,
        "wn": random.normal(size=(FRAME + units, units)) * 0.6,
        "wy": random.normal(size=(units, FRAME)),
        "bz": random.normal(size=units) + 1.0,
        "bn": random.normal(size=units) * 0.1,
        "by": random.normal(size=FRAME) * 0.1,
    }
    rows = [
        ("Concat", ["x", state], "xh", {"axis": 1}),
        ("Gemm", ["xh", "wz", "bz"], "zl", {}),
        ("Sigmoid", ["zl"], "z", {}),
        ("Gemm", ["xh", "wn", "bn"], "nl", {}),
        ("Tanh", ["nl"], "n", {}),
        ("Sub", [state, "n"], "d", {}),
        ("Mul", ["z", "d"], "zd", {}),
        ("Add", ["n", "zd"], output, {}),
        ("Gemm", [output, "wy", "by"], "y", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], name=f"{o}/node", **a) for op, i, o, a in rows],
        "cell",
        [_value("x", FRAME), _value(state, units)],
        [_value("y", FRAME), _value(output, units)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _value(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])


def frames(steps: int, seed: int = 1) -> Array:
    """Frames that swell and fade, (steps, 1, FRAME)."""
    random = np.random.default_rng(seed)
    loud = 1.0 + np.sin(np.arange(steps) / 5.0 + seed)
    return (random.normal(size=(steps, 1, FRAME)) * loud[:, None, None]).astype(np.float32)


def rolled(model: onnx.ModelProto, sequence: Array, start: Array | None = None) -> list[list[Array]]:
    """Outputs of every step, as ONNX's reference implementation computes them in a loop."""
    one, name = ReferenceEvaluator(model), model.graph.input[1].name
    state = np.zeros((1, UNITS), np.float32) if start is None else start
    found = []
    for x in sequence:
        found.append([np.asarray(v) for v in one.run(None, {"x": x, name: state})])
        state = found[-1][1]
    return found


def written(folder: Path, sequences: list[Array], *, name: str = "dataset.txt") -> Path:
    """A list of single steps whose sequences a blank line parts."""
    lines = []
    for s, sequence in enumerate(sequences):
        for t, x in enumerate(sequence):
            np.save(folder / f"{s}-{t:03d}.npy", x)
            lines.append(f"{s}-{t:03d}.npy")
        lines.append("")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path
