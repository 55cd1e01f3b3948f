"""In any environment with ONNX Runtime: ``overrides_taken.py MODEL OVERRIDES.json SAMPLES.npz OUT.onnx``.

Gives the file to ``quantize_static`` as ``TensorQuantOverrides`` and compares every scale and zero point that it wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Samples(CalibrationDataReader):
    """Feeds of a model with one input."""

    def __init__(self, model: str, path: str) -> None:
        name = onnx.load(model).graph.input[0].name
        with np.load(path) as held:
            self.left = iter([{name: held[key]} for key in sorted(held.files)[:2]])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def enums(found: dict[str, Any]) -> dict[str, Any]:
    """The words of a file as ONNX Runtime's enums and sets."""
    kinds = {"quant_type": lambda v: QuantType[v], "convert": enums, "recv_nodes": set}
    arrays = {"scale": lambda v: np.array(v, np.float32), "zero_point": np.array}
    return {k: {**kinds, **arrays}.get(k, lambda v: v)(v) for k, v in found.items()}


def main(model: str, path: str, samples: str, out: str) -> None:
    """Quantize, and count the tensors whose numbers are those of the file."""
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    kinds = {"QUInt8": np.uint8, "QInt8": np.int8, "QInt16": np.int16}
    overrides = {name: [enums(d) for d in rows] for name, rows in given.items()}
    for name, rows in overrides.items():
        for row, plain in zip(rows, given[name], strict=True):
            row["zero_point"] = np.array(plain["zero_point"], kinds[plain["quant_type"]])
    options = {"TensorQuantOverrides": overrides}
    quantize_static(model, out, Samples(model, samples), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, extra_options=options)  # fmt: skip
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    same = sum(
        np.array_equal(np.ravel(held[f"{n}_scale"]), np.array([r["scale"] for r in rows], np.float32))
        for n, rows in given.items()
        if f"{n}_scale" in held
    )
    seen = sum(f"{n}_scale" in held for n in given)
    sys.stdout.write(f"onnxruntime {onnxruntime.__version__}: {same} of {seen} tensors have the file's scales\n")
    raise SystemExit(same != seen)


if __name__ == "__main__":
    main(*sys.argv[1:])
