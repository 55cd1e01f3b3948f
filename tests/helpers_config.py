"""Models with their calibration for the tests of the cfg: a small one with every case, and chains of any length."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from hybridq import targets
from hybridq.config import check, read_cfg, write_cfg
from hybridq.config.write import EMPTY
from hybridq.errors import Problem
from hybridq.graph.analysis import analyse
from hybridq.graph.model import Model
from hybridq.plan.record import Request, record
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated, Measured, QuantConfig

PATH = "model.quantization.cfg"
SHA256 = "9f" * 32
INVALID = Path(__file__).parent / "cfg" / "invalid"
INVALID_CASES = sorted(INVALID.glob("*.cfg"))


def _proto(nodes: list, weights: dict[str, tuple[int, ...]], outputs: list[str]) -> ModelProto:
    inits = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    inits += [numpy_helper.from_array(np.array([1, -1], np.int64), "shape")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        inits,
    )
    return shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


@cache
def small(target: str = "onnxruntime") -> tuple[Model, Calibrated]:
    """conv1 (absorbs a Relu), a SiLU, a Concat of both, a numeric name, a float-only operator, a Reshape at the end."""
    n = helper.make_node
    nodes = [
        n("Conv", ["input", "w1"], ["conv1_pre"], "Conv_1", pads=[1, 1, 1, 1]),
        n("Relu", ["conv1_pre"], ["conv1"], "Relu_1"),
        n("Conv", ["conv1", "w2"], ["/head/conv2"], "Conv_2", pads=[1, 1, 1, 1]),
        n("Sigmoid", ["/head/conv2"], ["/head/sig"], "Sigmoid_1"),
        n("Mul", ["/head/conv2", "/head/sig"], ["/head/silu"], "Mul_1"),
        n("Concat", ["conv1", "/head/silu"], ["cat"], "Concat_1", axis=1),
        n("Conv", ["cat", "w3"], ["128"], "Conv_3"),
        n("Sign", ["128"], ["signs"], "Sign_1"),
        n("Add", ["128", "signs"], ["cls"], "Add_1"),
        n("Reshape", ["cls", "shape"], ["out"], "Reshape_1"),
    ]
    weights = {"w1": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "w3": (2, 8, 1, 1)}
    model = analyse(_proto(nodes, weights, ["out"]), name="small", sha256=SHA256)
    ranges = {"input": Range(0.0, 255.0), "conv1": Range(-0.278, 6.31), "/head/conv2": Range(-4.5, 7.25)}
    return model, calibrated(model, target, ranges)


@cache
def chain(layers: int, target: str = "onnxruntime") -> tuple[Model, Calibrated]:
    """``layers`` convolutions with names of a usual length, each with a weight; every tenth is a Sigmoid."""
    nodes, weights, last = [], {}, "input"
    for i in range(layers):
        name = f"/model/model.{i // 20}/cv{i % 20}/conv/Conv_{i}_output_0"
        if i % 10 == 9:
            name = name.replace("Conv_", "Sigmoid_")
            nodes.append(helper.make_node("Sigmoid", [last], [name], f"/model/node_{i}"))
        else:
            weights[f"w{i}"] = (3, 3, 1, 1)
            nodes.append(helper.make_node("Conv", [last, f"w{i}"], [name], f"/model/node_{i}"))
        last = name
    model = analyse(_proto(nodes, weights, [last]), name="chain", sha256=SHA256)
    return model, calibrated(model, target, {})


def calibrated(model: Model, target: str, ranges: dict[str, Range]) -> Calibrated:
    """What step1 would write, from made-up ranges."""
    goal = targets.load(target)
    measured: dict[str, Measured] = {}
    for i, group in enumerate(model.groups):
        r = ranges.get(group.name, Range(-1.5 - 0.37 * (i % 7), 2.1 + 0.11 * (i % 13)))
        r = Range(*map(float, group.fixed)) if group.fixed else r
        narrow = r if group.fixed else Range(r.min * 0.9, r.max * 0.9)
        algorithms = {"normal": {8: r, 16: r}, "mmse": {8: narrow, 16: r}}
        measured[group.name] = Measured(r, algorithms, group.fixed is not None)
    weights = {w.tensor: np.ones(w.shape, np.float32) for x in model.layers for w in x.weights}
    return record(model, weights, measured, Request(goal, goal.default, "normal"))


def text_of(target: str = "onnxruntime") -> str:
    return write_cfg(*small(target))


def layers(*lines: str, target: str = "onnxruntime") -> str:
    """The cfg with lines below ``customized_quantize_layers``."""
    return text_of(target).replace(EMPTY, "customized_quantize_layers:\n" + "\n".join(f"    {x}" for x in lines))


def config(text: str, target: str = "onnxruntime") -> QuantConfig:
    return read_cfg(text, PATH, *small(target))


def problems(text: str, target: str = "onnxruntime") -> list[Problem]:
    return check(text, PATH, *small(target))[1]
