"""Random float models: convolutions, products, movement, branches and rare operators, grown step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Feed = dict[str, Array]
FLOAT = TensorProto.FLOAT
INPUT = (3, 8, 8)
SAMPLES = 8


@dataclass
class Grower:
    """A model in the making. Shapes leave the batch axis out; every method returns the name of what it made."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    masks: set[str] = field(default_factory=set)  # constants that are no weights

    def node(self, op: str, inputs: list[str], *shapes: tuple[int, ...], **attributes: Any) -> str:
        outputs = [f"t{len(self.nodes)}_{i}" if i else f"t{len(self.nodes)}" for i in range(len(shapes))]
        name = f"{op}{len(self.nodes)}" if self.chance(0.9) else ""
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        self.shapes.update(zip(outputs, shapes, strict=True))
        self.read.update(inputs)
        return outputs[0]

    def const(self, values: Any) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        """Random weights; now and then those that another node has, or with a dead channel."""
        same = [t.name for t in self.tensors if tuple(t.dims) == shape and t.data_type == FLOAT]
        same = [name for name in same if name not in self.masks]
        if same and self.chance(0.4):
            return str(self.random.choice(same))
        values = self.random.normal(0, 1 / math.sqrt(fan_in), shape).astype(np.float32)
        if self.chance(0.1) and len(shape) > 1:
            values[0] = 0
        return self.const(values)

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def pick(self, choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def like(self, x: str, shape: tuple[int, ...] | None = None) -> str:
        """Another tensor of the same shape if there is one, else ``x`` itself."""
        found = [t for t, s in self.shapes.items() if s == (shape or self.shapes[x]) and t != x]
        return str(self.pick(found)) if found else x


def activation(g: Grower, x: str) -> str:
    kind = g.pick(["none", "none", "Relu", "Relu", "relu6", "clip", "Sigmoid", "silu", "HardSwish", "LeakyRelu"])
    if kind == "none":
        return x
    if kind == "relu6":
        return g.node("Clip", [x, g.const(np.float32(0)), g.const(np.float32(6))], g.shapes[x])
    if kind == "clip":
        return g.node("Clip", [x, g.const(np.float32(-1.5)), g.const(np.float32(1))], g.shapes[x])
    if kind == "silu":
        return g.node("Mul", [x, g.node("Sigmoid", [x], g.shapes[x])], g.shapes[x])
    return g.node(kind, [x], g.shapes[x], **({"alpha": 0.1} if kind == "LeakyRelu" else {}))


def conv(g: Grower, x: str) -> str:
    c, h, w = g.shapes[x]
    group = g.pick([1, 1, 1, c] + ([2] if c % 2 == 0 else []))
    out = group * int(g.random.integers(1, 4)) if group > 1 else g.pick([2, 4, 6, 16])
    k, stride = g.pick([1, 3]), g.pick([1, 1, 2])
    if min(h, w) + 2 * (k // 2) < k or out > 24:
        return x
    inputs = [x, g.weight((out, c // group, k, k), c // group * k * k)]
    if g.chance(0.7):
        inputs.append(g.weight((out,), 4))
    size = [(d + 2 * (k // 2) - k) // stride + 1 for d in (h, w)]
    y = g.node("Conv", inputs, (out, *size), kernel_shape=[k, k], strides=[stride] * 2, pads=[k // 2] * 4, group=group)
    return activation(g, batch_norm(g, y) if g.chance(0.15) else y)


def batch_norm(g: Grower, x: str) -> str:
    c = g.shapes[x][0]
    numbers = [g.const(g.random.uniform(0.5, 1.5, c).astype(np.float32)) for _ in range(4)]
    return g.node("BatchNormalization", [x, *numbers], g.shapes[x])


def conv_transpose(g: Grower, x: str) -> str:
    c, h, w = g.shapes[x]
    if h * w > 256:
        return x
    inputs = [x, g.weight((c, 4, 2, 2), c)] + ([g.weight((4,), 4)] if g.chance(0.5) else [])
    y = g.node("ConvTranspose", inputs, (4, 2 * h, 2 * w), kernel_shape=[2, 2], strides=[2, 2])
    return activation(g, y)


def binary(g: Grower, x: str) -> str:
    op, shape = g.pick(["Add", "Add", "Mul", "Sub"]), g.shapes[x]
    if g.chance(0.4):
        constant = g.weight(g.pick([(), (shape[-1],), (shape[0],) + (1,) * (len(shape) - 1)]), 1)
        inputs = [x, constant]
    else:
        inputs = [x, g.like(x)]
    if inputs[0] == inputs[1]:
        op = "Add"  # x - x is zero everywhere, and noise on a constant is no noise
    return activation(g, g.node(op, inputs[:: g.pick([1, -1])], shape))


def concat(g: Grower, x: str) -> str:
    shape = g.shapes[x]
    fitting = [t for t, s in g.shapes.items() if len(s) == len(shape) and s[1:] == shape[1:]]
    parts = [x] + [str(g.pick(fitting)) for _ in range(int(g.random.integers(1, 3)))]
    width = sum(g.shapes[p][0] for p in parts)
    return g.node("Concat", parts, (width, *shape[1:]), axis=1) if width <= 24 else x


def split(g: Grower, x: str) -> str:
    c, *rest = g.shapes[x]
    if c < 2:
        return x
    parts = g.const(np.array([c // 2, c - c // 2]))
    return g.node("Split", [x, parts], (c // 2, *rest), (c - c // 2, *rest), axis=1)


def slices(g: Grower, x: str) -> str:
    shape = g.shapes[x]
    if shape[-1] < 3:
        return x
    numbers = [g.const(np.array([n])) for n in (1, shape[-1], len(shape), g.pick([1, 2]))]
    step = int(numpy_helper.to_array(g.tensors[-1])[0])
    return g.node("Slice", [x, *numbers], (*shape[:-1], (shape[-1] - 2) // step + 1))


def pool(g: Grower, x: str) -> str:
    c, h, w = g.shapes[x]
    op = g.pick(["MaxPool", "MaxPool", "AveragePool", "GlobalAveragePool"])
    if op == "GlobalAveragePool":
        return g.node(op, [x], (c, 1, 1))
    if g.chance(0.5) and min(h, w) >= 2:
        return g.node(op, [x], (c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])
    count = {"count_include_pad": g.pick([0, 1])} if op == "AveragePool" else {}
    return g.node(op, [x], (c, h, w), kernel_shape=[3, 3], pads=[1] * 4, **count)


def resize(g: Grower, x: str) -> str:
    c, h, w = g.shapes[x]
    if h * w > 256:
        return x
    scales = g.const(np.array([1, 1, 2, 2], np.float32))
    return g.node("Resize", [x, "", scales], (c, 2 * h, 2 * w), mode=g.pick(["nearest", "linear"]))


def pad(g: Grower, x: str) -> str:
    c, h, w = g.shapes[x]
    mode = g.pick(["constant", "constant", "reflect" if min(h, w) > 1 else "edge", "edge"])
    value = [g.const(np.float32(g.pick([0, 1])))] if mode == "constant" and g.chance(0.7) else []
    amounts = g.const(np.array([0, 0, 1, 0, 0, 0, 0, 1]))
    return g.node("Pad", [x, amounts, *value], (c, h + 1, w + 1), mode=mode)


def transpose(g: Grower, x: str) -> str:
    shape = g.shapes[x]
    order = [0, *(1 + g.random.permutation(len(shape)))]
    return g.node("Transpose", [x], tuple(shape[i - 1] for i in order[1:]), perm=[int(i) for i in order])


def reshape(g: Grower, x: str) -> str:
    shape = g.shapes[x]
    wanted = (shape[0] * shape[1], *shape[2:]) if len(shape) == 2 else (shape[0], shape[1] * shape[2])
    return g.node("Reshape", [x, g.const(np.array([0, *wanted[:-1], -1]))], wanted)


def flatten(g: Grower, x: str) -> str:
    return g.node("Flatten", [x], (math.prod(g.shapes[x]),), axis=1)


def identity(g: Grower, x: str) -> str:
    return g.node(g.pick(["Identity", "Dropout"]), [x], g.shapes[x])


def unary(g: Grower, x: str) -> str:
    op = g.pick(["Relu", "Sigmoid", "LeakyRelu", "HardSwish", "Tanh", "HardSigmoid", "Softmax", "Neg"])
    return g.node(op, [x], g.shapes[x], **({"axis": -1} if op == "Softmax" else {}))


def gemm(g: Grower, x: str) -> str:
    (k,) = g.shapes[x]
    n, trans = g.pick([3, 8, 16]), g.pick([0, 1])
    inputs = [x, g.weight((n, k) if trans else (k, n), k)] + ([g.weight((n,), 4)] if g.chance(0.7) else [])
    scales = {"alpha": 0.5, "beta": 2.0} if g.chance(0.2) else {}
    return activation(g, g.node("Gemm", inputs, (n,), transB=trans, **scales))


def matmul(g: Grower, x: str) -> str:
    *rest, k = g.shapes[x]
    if len(rest) == 1 and g.chance(0.25):
        turned = g.node("Transpose", [x], (k, rest[0]), perm=[0, 2, 1])
        return g.node("MatMul", [x, turned], (rest[0], rest[0]))
    if len(rest) == 1 and g.chance(0.25):
        return activation(g, g.node("MatMul", [g.weight((6, rest[0]), rest[0]), x], (6, k)))
    n = g.pick([4, 8])
    y = g.node("MatMul", [x, g.weight((k, n), k)], (*rest, n))
    return activation(g, g.node("Add", [y, g.weight((n,), 4)], (*rest, n)) if g.chance(0.6) else y)


def layer_norm(g: Grower, x: str) -> str:
    k = g.shapes[x][-1]
    if k < 4:
        return x
    return g.node("LayerNormalization", [x, g.weight((k,), 1), g.weight((k,), 4)], g.shapes[x], axis=-1)


def rearranged(g: Grower, x: str) -> str:
    """DepthToSpace, SpaceToDepth, Gather, GlobalMaxPool, ReduceMax: values that only move."""
    c, h, w = g.shapes[x]
    if c % 4 == 0 and h * w <= 64 and g.chance(0.5):
        return g.node("DepthToSpace", [x], (c // 4, 2 * h, 2 * w), blocksize=2)
    if c <= 6 and h % 2 == 0 and w % 2 == 0 and g.chance(0.5):
        return g.node("SpaceToDepth", [x], (c * 4, h // 2, w // 2), blocksize=2)
    if g.chance(0.5):
        return g.node("Gather", [x, g.const(g.random.permutation(c))], (c, h, w), axis=1)
    if g.chance(0.5):
        return g.node("GlobalMaxPool", [x], (c, 1, 1))
    return g.node("ReduceMax", [x, g.const(np.array([2, 3]))], (c,), keepdims=0)


def rare(g: Grower, x: str) -> str:
    """Operators without an integer kernel, and some with more inputs than two."""
    if g.chance(0.3):
        return g.pick([steered, masked, emptied, branched, unread])(g, x)
    shape = g.shapes[x]
    op = g.pick(["PRelu", "ReduceMean", "Max", "Sum", "Where", "Div", "Pow", "InstanceNormalization", "Einsum", "Gelu"])
    if op == "PRelu":
        return g.node(op, [x, g.weight((shape[0],) + (1,) * (len(shape) - 1), 4)], shape)
    if op == "ReduceMean":
        return g.node(op, [x, g.const(np.array([len(shape)]))], (*shape[:-1], 1), keepdims=1)
    if op in ("Max", "Sum"):
        return g.node(op, [x, g.like(x), g.like(x)], shape)
    if op == "Where":
        return g.node(op, [g.node("Greater", [x, g.const(np.float32(0))], ()), x, g.like(x)], shape)
    if op in ("Div", "Pow"):
        return g.node(op, [x, g.const(np.float32(g.pick([2, 3] if op == "Pow" else [2, 0.3])))], shape)
    if op == "InstanceNormalization" and len(shape) > 1 and shape[-1] > 2:
        return g.node(op, [x, g.weight((shape[0],), 1), g.weight((shape[0],), 4)], shape)
    if op == "Einsum" and len(shape) == 2:
        return g.node(op, [x, g.weight((shape[1], 4), shape[1])], (shape[0], 4), equation="bij,jk->bik")
    return g.node("Gelu", [x], shape)


def odd_product(g: Grower, x: str) -> str:
    """Products that integer kernels do not take as they are: three axes, a computed bias, a bias for all."""
    *rest, k = g.shapes[x]
    if rest:
        return g.node("MatMul", [x, g.weight((1, k, 4), k)], (*rest, 4))
    bias = g.like(x, (8,)) if g.chance(0.5) and g.like(x, (8,)) != x else g.weight(g.pick([(1,), (1, 8)]), 1)
    return g.node("Gemm", [x, g.weight((k, 8), k), bias], (8,))


def masked(g: Grower, x: str) -> str:
    """A Softmax of which a mask takes some places, by -inf or a number that stands for it."""
    shape = g.shapes[x]
    low = np.float32(g.pick([-np.inf, -1e4, -1e9, np.finfo(np.float32).min]))
    hidden = g.random.random(shape[-1]) < 0.3
    hidden[int(g.random.integers(shape[-1]))] = False  # no row without any place
    if g.chance(0.5):
        g.masks.add(mask := g.const(np.where(hidden, low, np.float32(0))))
        m = g.node("Add", [x, mask], shape)
    else:
        m = g.node("Where", [g.const(~hidden), x, g.const(low)], shape)
    made = g.node("Softmax", [m], shape, axis=-1)
    del g.shapes[m]  # infinities end in the Softmax
    return made


def emptied(g: Grower, x: str) -> str:
    """A part without any element, computed upon and joined to the rest again."""
    nothing, axis = g.const(np.array([0])), g.const(np.array([1]))
    part = g.node("Slice", [x, nothing, nothing, axis], ())
    made = g.node(g.pick(["Relu", "Sigmoid", "Neg"]), [part], ())
    return g.node("Concat", [made, x][:: g.pick([1, -1])], g.shapes[x], axis=1)


def branched(g: Grower, x: str) -> str:
    """An If that reads a tensor from outside and takes the one branch for every batch of several samples."""
    size = g.node("Gather", [g.node("Shape", [x], ()), g.const(0)], ())
    several = g.node("Greater", [size, g.const(1)], ())
    graphs = []
    for op in ("Neg", "Abs"):
        made = f"{op}_in_{len(g.nodes)}"
        result = helper.make_tensor_value_info(made, FLOAT, None)
        graphs.append(helper.make_graph([helper.make_node(op, [x], [made])], op, [], [result]))
    g.read.add(x)
    return g.node("If", [several], g.shapes[x], then_branch=graphs[0], else_branch=graphs[1])


def unread(g: Grower, x: str) -> str:
    """Operators of which nothing reads one of the outputs, or which do not even name it."""
    shape = g.shapes[x]
    if len(shape) == 3 and min(shape[1:]) > 1 and g.chance(0.5):
        y = g.node("MaxPool", [x], (shape[0], shape[1] // 2, shape[2] // 2), (), kernel_shape=[2, 2], strides=[2, 2])
    elif shape[0] > 1:
        y = g.node("Split", [x, g.const(np.array([1, shape[0] - 1]))], (1, *shape[1:]), (), axis=1)
    else:
        y = g.node("Dropout", [x], shape, ())
    if g.chance(0.5) and g.nodes[-1].op_type != "Split":  # whose outputs are as many as its sizes
        del g.nodes[-1].output[1:]
    return y


def steered(g: Grower, x: str) -> str:
    """Operators whose parameters are computed in the graph, in float."""
    shape = g.shapes[x]
    size = g.node("Gather", [g.node("Shape", [x], ()), g.const(0)], ())
    two = g.node("Mul", [g.node("Cast", [size], (), to=FLOAT), g.const(np.float32(2 / SAMPLES))], ())
    kind = g.pick(["Pow", "Clip", "Resize"] if len(shape) == 3 and shape[1] * shape[2] <= 256 else ["Pow", "Clip"])
    if kind == "Resize":
        each = g.node("Unsqueeze", [two, g.const(np.array([0]))], ())
        scales = g.node("Concat", [g.const(np.ones(2, np.float32)), each, each], (), axis=0)
        mode = g.pick(["nearest", "linear"])
        return g.node("Resize", [x, "", scales], (shape[0], 2 * shape[1], 2 * shape[2]), mode=mode)
    if kind == "Clip":
        return g.node("Clip", [x, g.node("Neg", [two], ()), two], shape)
    return g.node("Pow", [x, two], shape)


Step = Callable[[Grower, str], str]
ANY: list[Step] = [unary, binary, binary, identity, concat, slices, rare]
STEPS: dict[int, list[Step]] = {
    1: [*ANY, gemm, gemm, gemm, odd_product],
    2: [*ANY, matmul, matmul, matmul, odd_product, layer_norm, transpose, reshape, flatten],
    3: [*ANY, *[conv] * 6, conv_transpose, pool, pool, resize, pad, split, transpose, reshape, flatten, rearranged],
}


def random_model(seed: int) -> onnx.ModelProto:
    """A model of 3 to 14 steps; every tensor that nothing reads is an output, now and then one that is read, too."""
    g = Grower(np.random.default_rng(seed))
    g.shapes["x"] = INPUT
    for _ in range(int(g.random.integers(3, 15))):
        recent = [t for t, shape in g.shapes.items() if shape][-4:]
        x = str(g.pick(recent))
        g.pick(STEPS[len(g.shapes[x])])(g, x)
    if not g.nodes:
        conv(g, "x")
    made = [t for t, shape in g.shapes.items() if t != "x" and shape] or [g.node("Relu", ["x"], INPUT)]
    outputs = [t for t in made if t not in g.read]
    outputs += [t for t in made if t in g.read and g.chance(0.06)]
    graph = helper.make_graph(
        g.nodes,
        "random",
        [helper.make_tensor_value_info("x", FLOAT, ["n", *INPUT])],
        [helper.make_tensor_value_info(t, FLOAT, ["n", *g.shapes[t]]) for t in outputs],
        g.tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
