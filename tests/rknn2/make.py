"""What RKNN-Toolkit2's simulator computes for a small model, kept for tests: ``make.py PYTHON``.

``PYTHON`` is that of an environment with rknn-toolkit2 (``tests/consumers/README.md``). Writes ``model.onnx`` and
``samples.npz`` beside this file and, for each choice of layers, ``int8.npz``, ``mixed.npz`` and ``halves.npz``: every
tensor of the first sample as the toolkit's simulator has it; and ``toolkit.quantization.cfg``, as its step 1 writes it
for the model.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import hybridq

HERE = Path(__file__).resolve().parent
CHOICES: dict[str, dict[str, str]] = {
    "int8": {},
    "mixed": dict.fromkeys(("left", "leaky", "sum1", "gate", "residual", "y2"), "int16"),
    "halves": {"leaky": "float16"} | dict.fromkeys(("swish_c", "swish_s", "swish", "n_y3_2conv0", "y3"), "int16"),
}
RANDOM = np.random.default_rng(12)


def _normal(*shape: int, scale: float) -> np.ndarray:
    return (RANDOM.normal(size=shape) * scale).astype(np.float32)


def graph() -> onnx.ModelProto:
    """Two branches with what the toolkit computes together: activations, a Swish, sums, a transposed Sigmoid."""
    tensors: dict[str, np.ndarray] = {}
    nodes = []

    def conv(source: str, result: str, channels: int = 8, kernel: int = 3, group: int = 1) -> None:
        tensors[f"{result}_w"] = _normal(8, channels // group, kernel, kernel, scale=1 / np.sqrt(channels) / kernel)
        tensors[f"{result}_b"] = _normal(8, scale=0.3)
        inputs = [source, f"{result}_w", f"{result}_b"]
        nodes.append(helper.make_node("Conv", inputs, [result], f"n_{result}", pads=[kernel // 2] * 4, group=group))

    def op(kind: str, inputs: str, result: str, **attributes: object) -> None:
        nodes.append(helper.make_node(kind, inputs.split(), [result], f"n_{result}", **attributes))

    conv("x", "left_c", channels=3)
    op("Relu", "left_c", "left")
    conv("x", "right_c", channels=3, kernel=1)
    op("Relu", "right_c", "right")
    conv("left", "leaky_c")
    op("LeakyRelu", "leaky_c", "leaky", alpha=0.1)
    conv("left", "sum1_a")
    conv("right", "sum1_b")
    op("Add", "sum1_a sum1_b", "sum1_s")
    op("Relu", "sum1_s", "sum1")
    conv("leaky", "swish_c")
    op("Sigmoid", "swish_c", "swish_s")
    op("Mul", "swish_c swish_s", "swish")
    conv("sum1", "depth", group=8)
    op("LeakyRelu", "depth", "depth_l", alpha=0.2)
    conv("swish", "gate_c", kernel=1)
    op("Sigmoid", "gate_c", "gate")
    conv("depth_l", "branch")
    op("Add", "branch right", "residual")
    op("Mul", "residual gate", "gated")
    op("MaxPool", "gated", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    conv("pooled", "y1")
    conv("pooled", "y2_c", kernel=1)
    op("Transpose", "y2_c", "y2_t", perm=[0, 2, 3, 1])
    op("Sigmoid", "y2_t", "y2")
    op("GlobalAveragePool", "swish", "y3")
    ends = [helper.make_empty_tensor_value_info(n) for n in ("y1", "y2", "y3")]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        ends,
        [numpy_helper.from_array(v, k) for k, v in tensors.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def built(folder: Path, choice: str) -> Path:
    """The folder of a model calibrated for the toolkit, layers as a choice has them, and built."""
    listed = folder.with_suffix(".txt")
    with np.load(HERE / "samples.npz") as held:
        for key in sorted(held.files):
            np.save(folder.parent / f"{key}.npy", held[key])
        listed.write_text("\n".join(f"{key}.npy" for key in sorted(held.files)) + "\n")
    hybridq.step1(HERE / "model.onnx", listed, folder, target="rknn2", algorithm="normal", weights_repair="none")
    for name, precision in CHOICES[choice].items():
        hybridq.set(folder, name, precision)
    hybridq.step2(folder)
    return folder


def simulated(python: str, folder: Path) -> dict[str, np.ndarray]:
    """Every tensor as the toolkit's simulator computes it for the first sample."""
    out = hybridq.step4(folder, "rknn2").path
    subprocess.run([python, "convert.py"], cwd=out, check=True)
    place = out / "rknn" / "analysis"
    rows = [line.split() for line in (place / "map_name_to_file.txt").read_text().splitlines()]
    arrays = place / "simulator" / "npy"
    files = {row[0]: arrays / f"{row[1].removesuffix('.txt')}.npy" for row in rows if len(row) == 2}
    return {name: np.load(path) for name, path in files.items() if path.exists()}


def own_cfg(python: str, folder: Path) -> str:
    """The cfg that the toolkit's step 1 writes for the model as it is given."""
    listed = built(folder / "build", "int8").with_suffix(".txt")
    lines = f"""
from rknn.api import RKNN
rknn = RKNN()
rknn.config(target_platform="rk3588", quantized_algorithm="normal")
assert rknn.load_onnx(model={str(HERE / "model.onnx")!r}) == 0
assert rknn.hybrid_quantization_step1(dataset={str(listed)!r}) == 0
"""
    subprocess.run([python, "-c", lines], cwd=folder, check=True)
    return (folder / "model.quantization.cfg").read_text(encoding="utf-8")


def main(python: str) -> None:
    """Write all files."""
    onnx.save(graph(), HERE / "model.onnx")
    np.savez_compressed(HERE / "samples.npz", **{f"s{i}": _normal(1, 3, 8, 8, scale=1.0) for i in range(6)})
    for choice in CHOICES:
        with tempfile.TemporaryDirectory() as made:
            found = simulated(python, built(Path(made) / "build", choice))
        np.savez_compressed(HERE / f"{choice}.npz", **{name.replace("/", "|"): v for name, v in found.items()})
    with tempfile.TemporaryDirectory() as made:
        (HERE / "toolkit.quantization.cfg").write_text(own_cfg(python, Path(made)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
