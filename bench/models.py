"""Models for the benchmarks: well-known architectures with random weights, so that nothing has to be downloaded.

He initialization keeps every activation near unit variance, which is what a trained network with BatchNorm has too;
the speed of a model does not depend on what its weights say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8


@dataclass
class Net:
    """A graph in the making: every method appends nodes and returns the name of the tensor they write."""

    name: str
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def op(self, op: str, *inputs: str, channels: int = 0, **attributes: Any) -> str:
        """Append one node; its output keeps the channels of the first input unless told otherwise."""
        out = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"n_{out}", **attributes))
        self.channels[out] = channels or self.channels.get(inputs[0], 0)
        return out

    def ops(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append one node with several outputs that share the channels of the first input equally."""
        out = [f"{op.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), out, name=f"n_{out[0]}", **attributes))
        self.channels.update(dict.fromkeys(out, self.channels[inputs[0]] // outputs))
        return out

    def const(self, value: NDArray[Any] | list[int] | float) -> str:
        """Add an initializer: int64 for lists, float32 otherwise."""
        array = np.asarray(value, np.int64 if isinstance(value, list) else None)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = f"w_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, shape: tuple[int, ...], std: float) -> str:
        """Add a normally distributed initializer."""
        return self.const(self.random.normal(0.0, std, shape))

    def conv(self, x: str, out: int, kernel: int = 3, stride: int = 1, group: int = 1, gain: float = 2.0) -> str:
        """Convolution without bias followed by BatchNormalization; variance of the result about gain / 2."""
        fan_in = self.channels[x] // group * kernel * kernel
        weight = self.normal((out, self.channels[x] // group, kernel, kernel), float(np.sqrt(gain / fan_in)))
        sides = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        y = self.op("Conv", x, weight, channels=out, group=group, **sides)
        scale, bias = self.random.uniform(0.8, 1.2, out), self.random.normal(0.0, 0.1, out)
        mean, var = self.random.normal(0.0, 0.1, out), self.random.uniform(0.8, 1.2, out)
        return self.op("BatchNormalization", y, *(self.const(v) for v in (scale, bias, mean, var)))

    def silu(self, x: str) -> str:
        """``x * sigmoid(x)`` as PyTorch exports it."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def linear(self, x: str, out: int, gain: float = 1.0) -> str:
        """MatMul with a weight and Add with a bias over the last axis, as PyTorch exports it."""
        weight = self.normal((self.channels[x], out), float(np.sqrt(gain / self.channels[x])))
        return self.op("Add", self.op("MatMul", x, weight, channels=out), self.normal((out,), 0.1))

    def model(self, inputs: dict[str, list[int]], outputs: dict[str, list[int] | None]) -> onnx.ModelProto:
        """The finished model; raises what the checker raises."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in outputs.items()],
            self.weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        made = onnx.shape_inference.infer_shapes(made, strict_mode=True)
        onnx.checker.check_model(made)
        return made


def mobilenet_v2(size: int = 224) -> onnx.ModelProto:
    """MobileNetV2 1.0 (Sandler et al. 2018, table 2), 0.30 GMAC at 224."""
    net = Net("mobilenet_v2", channels={"input": 3})
    x = _relu6(net, net.conv("input", 32, stride=2))
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, out, repeats, stride in table:
        for i in range(repeats):
            y, wide = x, net.channels[x] * expansion
            if expansion > 1:
                y = _relu6(net, net.conv(y, wide, 1))
            y = _relu6(net, net.conv(y, wide, 3, stride if i == 0 else 1, group=wide))
            y = net.conv(y, out, 1, gain=1.0)
            x = net.op("Add", x, y) if i else y
    x = _relu6(net, net.conv(x, 1280, 1))
    return _classifier(net, x, size)


def resnet18(size: int = 224) -> onnx.ModelProto:
    """ResNet-18 (He et al. 2015, table 1), 1.8 GMAC at 224."""
    net = Net("resnet18", channels={"input": 3})
    x = net.op("Relu", net.conv("input", 64, 7, 2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for out, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            y = net.conv(net.op("Relu", net.conv(x, out, 3, stride)), out, gain=0.5)
            short = x if net.channels[x] == out and stride == 1 else net.conv(x, out, 1, stride, gain=1.0)
            x = net.op("Relu", net.op("Add", y, short))
    return _classifier(net, x, size)


def silu_yolo(size: int = 320, classes: int = 80, depth: int = 1) -> onnx.ModelProto:
    """A detector of the YOLOv8n kind: SiLU, C2f blocks, SPPF, a PAN neck, two-branch heads; about 1.1 GMAC at 320.

    ``depth`` times as many bottlenecks in the backbone: 2 gives 230 layers.
    """
    net = Net("silu_yolo", channels={"images": 3})
    x = _conv_silu(net, _conv_silu(net, "images", 16, 3, 2), 32, 3, 2)
    x = _c2f(net, x, 32, depth, True)
    p3 = _c2f(net, _conv_silu(net, x, 64, 3, 2), 64, 2 * depth, True)
    p4 = _c2f(net, _conv_silu(net, p3, 128, 3, 2), 128, 2 * depth, True)
    p5 = _sppf(net, _c2f(net, _conv_silu(net, p4, 256, 3, 2), 256, depth, True))
    n4 = _c2f(net, _concat(net, _upsample(net, p5), p4), 128, 1, False)
    n3 = _c2f(net, _concat(net, _upsample(net, n4), p3), 64, 1, False)
    n4 = _c2f(net, _concat(net, _conv_silu(net, n3, 64, 3, 2), n4), 128, 1, False)
    n5 = _c2f(net, _concat(net, _conv_silu(net, n4, 128, 3, 2), p5), 256, 1, False)
    parts = []
    for level, stride in ((n3, 8), (n4, 16), (n5, 32)):
        box = net.conv(_conv_silu(net, _conv_silu(net, level, 64), 64), 64, 1, gain=1.0)
        score = net.conv(_conv_silu(net, _conv_silu(net, level, 80), 80), classes, 1, gain=1.0)
        cells = (size // stride) ** 2
        joined = _concat(net, net.op("Mul", box, net.const(float(stride))), net.op("Sigmoid", score))
        parts.append(net.op("Reshape", joined, net.const([1, 64 + classes, cells])))
    net.nodes.append(helper.make_node("Concat", parts, ["output"], name="n_output", axis=2))
    return net.model({"images": [1, 3, size, size]}, {"output": None})


def vit(blocks: int = 6, dim: int = 192, heads: int = 3, size: int = 224, patch: int = 16) -> onnx.ModelProto:
    """A vision transformer as PyTorch exports it: pre-norm, Erf Gelu, MatMul + Add; 0.53 GMAC with 6 blocks of 192."""
    net = Net("vit", channels={"input": 3})
    weight = net.normal((dim, 3, patch, patch), float(np.sqrt(1.0 / (3 * patch * patch))))
    x = net.op("Conv", "input", weight, net.normal((dim,), 0.1), strides=[patch] * 2, channels=dim)
    x = net.op("Transpose", net.op("Reshape", x, net.const([1, dim, -1])), perm=[0, 2, 1])
    net.channels[x] = dim
    x = net.op("Concat", net.normal((1, 1, dim), 1.0), x, axis=1, channels=dim)
    x = net.op("Add", x, net.normal((1, (size // patch) ** 2 + 1, dim), 0.5))
    for _ in range(blocks):
        x = net.op("Add", x, _attention(net, _norm(net, x), heads))
        hidden = _gelu(net, net.linear(_norm(net, x), dim * 4, gain=2.0))
        x = net.op("Add", x, net.linear(hidden, dim))
    x = net.op("Gather", _norm(net, x), net.const(np.asarray(0, np.int64)), axis=1, channels=dim)
    weight = net.normal((1000, dim), float(np.sqrt(1.0 / dim)))
    net.nodes.append(helper.make_node("Gemm", [x, weight, net.normal((1000,), 0.1)], ["output"], "n_output", transB=1))
    return net.model({"input": [1, 3, size, size]}, {"output": [1, 1000]})


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "silu_yolo": silu_yolo,
    "vit": vit,
}


def save(name: str, folder: Path) -> Path:
    """Build the model called ``name``, write it into ``folder``, and return its path."""
    path = folder / f"{name}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(MODELS[name](), path)
    return path


def _relu6(net: Net, x: str) -> str:
    return net.op("Clip", x, net.const(0.0), net.const(6.0))


def _conv_silu(net: Net, x: str, out: int, kernel: int = 3, stride: int = 1) -> str:
    return net.silu(net.conv(x, out, kernel, stride))


def _concat(net: Net, *parts: str) -> str:
    return net.op("Concat", *parts, axis=1, channels=sum(net.channels[p] for p in parts))


def _upsample(net: Net, x: str) -> str:
    scales = net.const(np.array([1.0, 1.0, 2.0, 2.0], np.float32))
    return net.op(
        "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def _c2f(net: Net, x: str, out: int, repeats: int, shortcut: bool) -> str:
    parts = net.ops("Split", 2, _conv_silu(net, x, out, 1), net.const([out // 2, out // 2]), axis=1)
    for _ in range(repeats):
        y = _conv_silu(net, _conv_silu(net, parts[-1], out // 2), out // 2)
        parts.append(net.op("Add", parts[-1], y) if shortcut else y)
    return _conv_silu(net, _concat(net, *parts), out, 1)


def _sppf(net: Net, x: str) -> str:
    parts = [_conv_silu(net, x, net.channels[x] // 2, 1)]
    for _ in range(3):
        parts.append(net.op("MaxPool", parts[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
    return _conv_silu(net, _concat(net, *parts), net.channels[x], 1)


def _norm(net: Net, x: str) -> str:
    dim = net.channels[x]
    scale, bias = net.const(net.random.uniform(0.8, 1.2, dim)), net.normal((dim,), 0.1)
    return net.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-6)


def _gelu(net: Net, x: str) -> str:
    erf = net.op("Erf", net.op("Div", x, net.const(float(np.sqrt(2.0)))))
    return net.op("Mul", net.op("Mul", x, net.op("Add", erf, net.const(1.0))), net.const(0.5))


def _attention(net: Net, x: str, heads: int) -> str:
    dim = net.channels[x]
    shape = net.const([1, -1, heads, dim // heads])
    q, k, v = (net.op("Reshape", net.linear(x, dim), shape) for _ in range(3))
    q, v = (net.op("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    k = net.op("Transpose", k, perm=[0, 2, 3, 1])
    scores = net.op("Mul", net.op("MatMul", q, k), net.const(float((dim // heads) ** -0.5)))
    y = net.op("Transpose", net.op("MatMul", net.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    y = net.op("Reshape", y, net.const([1, -1, dim]), channels=dim)
    return net.linear(y, dim)


def _classifier(net: Net, x: str, size: int) -> onnx.ModelProto:
    features = net.channels[x]
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    weight, bias = net.normal((1000, features), float(np.sqrt(1.0 / features))), net.normal((1000,), 0.1)
    net.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["output"], "n_output", transB=1))
    return net.model({"input": [1, 3, size, size]}, {"output": [1, 1000]})
