"""AveragePools written as the operators that the plan puts in their place."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, helper

from hybridq.build.writer import Writer
from hybridq.graph import edit
from hybridq.plan.quant_plan import PoolPlan
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams

OF_A_CONVOLUTION = ("kernel_shape", "strides", "pads", "dilations")


def replace(writer: Writer, node: NodeProto, pool: PoolPlan, channels: int) -> None:
    """Make an AveragePool over ``channels`` channels the operator that the plan wants.

    A depthwise convolution of ones sums the window, its scale divides.
    """
    given = edit.attributes(node)
    node.op_type = pool.op
    del node.attribute[:]
    if pool.op == "Conv":
        node.input.append(_ones(writer, channels, tuple(given["kernel_shape"])))
        kept = {name: value for name, value in given.items() if name in OF_A_CONVOLUTION}
        node.attribute.extend(helper.make_attribute(k, v) for k, v in {**kept, "group": channels}.items())


def _ones(writer: Writer, channels: int, window: tuple[int, ...]) -> str:
    """Depthwise weights that average: int8 ones with the scale ``1 / (k_h k_w)``, shared by all such windows."""

    def make() -> str:
        name = f"average_{'x'.join(map(str, (channels, *window)))}"
        scale = np.asarray(1 / math.prod(window), np.float32)
        p = QParams(Precision.INT8, Scheme.SYMMETRIC, scale, np.zeros((), np.int32), None)
        stored = writer.small(f"{name}/int8", np.ones((channels, 1, *window), np.int8))
        return writer.node("DequantizeLinear", [stored, *writer.numbers(p)], writer.fresh(name))

    return writer.once(("ones", channels, window), make)
