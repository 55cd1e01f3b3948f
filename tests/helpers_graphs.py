"""Graphs written as rows of ``(op, inputs, output, attributes)``, calibrated and built for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from qdq_graphs import Array
from random_graphs import Case, make_case
from random_models import Feed

from hybridq.quant.dtypes import Precision

FLOAT = TensorProto.FLOAT
F32, F16, I16, I8, U8 = (
    Precision.FLOAT32,
    Precision.FLOAT16,
    Precision.INT16,
    Precision.INT8,
    Precision.UINT8,
)
RANDOM = np.random.default_rng(0)


def normal(*shape: int, scale: float = 1.0) -> Array:
    return (RANDOM.normal(size=shape) * scale).astype(np.float32)


def given(
    nodes: list[tuple[Any, ...]], tensors: dict[str, Array], outputs: list[str], shape: tuple[Any, ...] = ("n", 8, 8, 8)
) -> ModelProto:
    """A model of ``(op, inputs, output, attributes)`` rows, reading ``x``."""
    graph = helper.make_graph(
        [helper.make_node(n[0], n[1].split(), [n[2]], name=f"{n[2]}/node", **(n[3] if n[3:] else {})) for n in nodes],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(o, FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def case_of(model: ModelProto, feed: Feed | None = None) -> Case:
    return make_case(model, feed or {"x": normal(4, 8, 8, 8)})


def built(case: Case, choices: dict[str, Any], **options: Any) -> ModelProto:
    model = case.build(case.plan({**case.all(U8), **choices}, **options))
    onnx.checker.check_model(model, full_check=True)
    return model


CHAIN = given(
    [
        ("Conv", "x w1 b1", "a", {"pads": [1] * 4}),
        ("Relu", "a", "r1"),
        ("Conv", "r1 w2 b2", "m", {"pads": [1] * 4}),
        ("Relu", "m", "r2"),
        ("Conv", "r2 w3 b3", "y", {"pads": [1] * 4}),
    ],
    {
        **{f"w{i}": normal(8, 8, 3, 3, scale=0.1) for i in (1, 2, 3)},
        **{f"b{i}": normal(8, scale=0.1) for i in (1, 2, 3)},
    },
    ["y"],
)
