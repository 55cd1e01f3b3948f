"""Small detectors whose boxes (pixels) and scores (0..1) share an output tensor: 8 bits leave nothing of the scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
CELLS, CLASSES, STRIDE, SIZE = 8, 3, 80.0, 640.0  # 8 x 8 cells of 80 pixels
COUNT = CELLS * CELLS
OUT = "detections"


def grid() -> Array:
    """Column and row of every cell, (1, 2, cells)."""
    rows, columns = np.mgrid[:CELLS, :CELLS]
    return np.stack([columns, rows]).reshape(1, 2, COUNT).astype(np.float32)


@dataclass
class Detector:
    """A graph under construction: a backbone, heads, and what a decoder appends."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def add(
        self, op: str, *inputs: str | np.ndarray | float, out: str = "", count: int = 1, **attributes: object
    ) -> str:
        """Append a node and give the name of its (first) output; arrays become initializers."""
        out = out or f"{op.lower()}{len(self.nodes)}"
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        outputs = [out, *(f"{out}.{i}" for i in range(1, count))]
        self.nodes.append(helper.make_node(op, names, outputs, name=f"{op}.{len(self.nodes)}", **attributes))
        return out

    def constant(self, values: np.ndarray | float) -> str:
        """An initializer; numbers are float32."""
        array = np.asarray(values, np.float32 if isinstance(values, float) else None)
        self.tensors.append(numpy_helper.from_array(array, f"k{len(self.tensors)}"))
        return self.tensors[-1].name

    def conv(self, read: str, out: int, channels: int, size: int, gain: float, bias: float = 0.0) -> str:
        """A convolution with random weights; ``size`` 3 halves the picture."""
        rng = np.random.default_rng(len(self.nodes))
        weights = rng.normal(0, gain / np.sqrt(channels * size * size), (out, channels, size, size))
        shape = {"pads": [size // 2] * 4, "strides": [2] * 2 if size == 3 else [1] * 2}
        return self.add("Conv", read, weights.astype(np.float32), np.full(out, bias, np.float32), **shape)

    def flat(self, read: str, channels: int) -> str:
        """Positions in one axis: (1, channels, cells)."""
        return self.add("Reshape", read, np.array([1, channels, COUNT]))

    def heads(self) -> tuple[str, str, str]:
        """Raw boxes (1, 4, cells), objectness and class logits."""
        x, channels = "x", 3
        for out in (16, 32, 64):
            x, channels = self.add("Relu", self.conv(x, out, channels, 3, 2.0)), out
        sizes = ((4, 2.0, 0.0), (1, 4.0, -2.0), (CLASSES, 4.0, 0.0))
        raw = [self.flat(self.conv(x, n, channels, 1, gain, bias), n) for n, gain, bias in sizes]
        return raw[0], raw[1], raw[2]

    def boxes(self, raw: str) -> str:
        """Centre and size in pixels."""
        centre = self.add("Split", raw, np.array([2, 2]), axis=1, count=2)
        size = f"{centre}.1"
        centre = self.add("Mul", self.add("Add", self.add("Sigmoid", centre), grid()), STRIDE)
        return self.add("Concat", centre, self.add("Mul", self.add("Sigmoid", size), SIZE), axis=1)

    def last(self, read: str, **options: str) -> str:
        """Channels to the last axis."""
        return self.add("Transpose", read, perm=[0, 2, 1], **options)

    def scores(self, objectness: str, classes: str) -> str:
        """Products of two probabilities."""
        return self.add("Mul", self.add("Sigmoid", objectness), self.add("Sigmoid", classes))

    def save(self, path: Path) -> Path:
        """Write the model; its input is one picture of 64 x 64."""
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 64, 64))
        made = helper.make_tensor_value_info(OUT, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "detector", [given], [made], self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
        return path


def scaled_after(d: Detector) -> None:
    """Fractions and scores joined, then one Mul to pixels and one Add of the cells; no boundary to keep them apart."""
    box, objectness, classes = d.heads()
    joined = d.add("Sigmoid", d.add("Concat", box, objectness, classes, axis=1))
    scale, shift = np.ones((1, 5 + CLASSES, 1), np.float32), np.zeros((1, 5 + CLASSES, COUNT), np.float32)
    scale[0, :2], scale[0, 2:4], shift[0, :2] = STRIDE, SIZE, grid()[0] * STRIDE
    d.add("Add", d.add("Mul", joined, scale), shift, out=OUT)


def pixels_then_factor(d: Detector) -> None:
    """Pixels and scores joined, moved, then scaled to the picture."""
    box, objectness, classes = d.heads()
    joined = d.last(d.add("Concat", d.boxes(box), d.scores(objectness, classes), axis=1))
    d.add("Mul", joined, np.array([2.0] * 4 + [1.0] * CLASSES, np.float32), out=OUT)


def corners_by_matmul(d: Detector) -> None:
    """Centre and size become corners by a matrix product, scores pass through: broken by default too."""
    box, objectness, classes = d.heads()
    joined = d.last(d.add("Concat", d.boxes(box), d.scores(objectness, classes), axis=1))
    matrix = np.eye(4 + CLASSES, dtype=np.float32)
    matrix[:4, :4] = [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]]
    d.add("MatMul", joined, matrix, out=OUT)


def exp_by_mask(d: Detector) -> None:
    """One tensor all the way: a mask chooses Exp for sizes and Sigmoid for the rest, a constant makes pixels."""
    box, objectness, classes = d.heads()
    raw = d.add("Concat", box, objectness, classes, axis=1)
    mask = np.zeros((1, 5 + CLASSES, 1), bool)
    mask[0, 2:4] = True
    scale = np.ones((1, 5 + CLASSES, 1), np.float32)
    scale[0, :4] = STRIDE
    chosen = d.add("Where", mask, d.add("Exp", d.add("Clip", raw, -4.0, 2.0)), d.add("Sigmoid", raw))
    d.add("Mul", chosen, scale, out=OUT)


def padded_sum(d: Detector) -> None:
    """No Concat: boxes and scores padded with zeros and added."""
    box, objectness, classes = d.heads()
    first = d.add("Pad", d.boxes(box), np.array([0, 0, 0, 0, CLASSES, 0]))
    d.add("Add", first, d.add("Pad", d.scores(objectness, classes), np.array([0, 4, 0, 0, 0, 0])), out=OUT)


def channels_first(d: Detector) -> None:
    """YOLOv8: (1, 4 + classes, cells)."""
    box, objectness, classes = d.heads()
    d.add("Concat", d.boxes(box), d.scores(objectness, classes), axis=1, out=OUT)


def products_last(d: Detector) -> None:
    """YOLOv5: boxes, objectness and products on the last axis."""
    box, objectness, classes = d.heads()
    parts = [d.boxes(box), d.add("Sigmoid", objectness), d.scores(objectness, classes)]
    d.add("Concat", *map(d.last, parts), axis=-1, out=OUT)


def logits(d: Detector) -> None:
    """Raw logits beside the pixels of a large picture."""
    box, objectness, classes = d.heads()
    d.add("Concat", d.add("Mul", d.boxes(box), 8.0), objectness, classes, axis=1, out=OUT)


def binned_distances(d: Detector) -> None:
    """Distances as the mean of a Softmax over 16 bins, roots of products as scores; moved and reshaped at the end."""
    box, objectness, classes = d.heads()
    bins = d.add(
        "Reshape", d.conv(d.add("Reshape", box, np.array([1, 4, 8, 8])), 64, 4, 1, 3.0), np.array([1, 4, 16, 64])
    )
    share = d.add("Softmax", d.add("Transpose", bins, perm=[0, 2, 1, 3]), axis=1)
    mean = d.flat(d.add("Conv", share, np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)), 4)
    pixels = d.add("Mul", mean, STRIDE / 2)
    score = d.add("Sqrt", d.scores(objectness, classes))
    d.add("Reshape", d.last(d.add("Concat", score, pixels, axis=1)), np.array([COUNT, 4 + CLASSES]), out=OUT)


@dataclass(frozen=True)
class Broken:
    """A decoder, where its scores lie, and the targets on which 8 bits break it."""

    decode: Callable[[Detector], None]
    channels: slice
    axis: int = 1
    targets: tuple[str, ...] = ("onnxruntime", "rknn1", "rknn2")

    def make(self, path: Path) -> Path:
        """Write the model."""
        detector = Detector()
        self.decode(detector)
        return detector.save(path)

    def scores(self, output: Array) -> Array:
        """The scores (or logits) of an output."""
        return np.moveaxis(output, self.axis, 0)[self.channels]


NPU = ("rknn1", "rknn2")
DETECTORS = {
    b.decode.__name__: b
    for b in (
        Broken(scaled_after, slice(4, None)),
        Broken(pixels_then_factor, slice(4, None), axis=2),
        Broken(corners_by_matmul, slice(4, None), axis=2),
        Broken(exp_by_mask, slice(4, None)),
        Broken(padded_sum, slice(4, None)),
        Broken(channels_first, slice(4, None), targets=NPU),
        Broken(products_last, slice(4, None), axis=2, targets=NPU),
        Broken(logits, slice(4, None), targets=NPU),
        Broken(binned_distances, slice(0, CLASSES), targets=NPU),
    )
}


def pictures(count: int = 20) -> list[dict[str, Array]]:
    """Smooth noise with bright blobs."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(count):
        coarse = rng.normal(size=(1, 3, 8, 8)).astype(np.float32)
        picture = np.kron(coarse, np.ones((1, 1, 8, 8), np.float32)) + 0.2 * rng.normal(size=(1, 3, 64, 64))
        found.append({"x": picture.astype(np.float32)})
    return found
