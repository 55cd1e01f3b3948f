"""AveragePool in 8 bits: ONNX Runtime's own kernel is slow and inexact, a convolution of ones is neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_graphs import F32, I16, U8, built, case_of, normal
from helpers_graphs import given as graph
from qdq_graphs import executed
from random_graphs import run

from hybridq.graph.operators import averages_windows
from hybridq.plan.defaults import fast_kernel

CONV = {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1)}
WHOLE = {"kernel_shape": [8, 8]}
FAST = [
    WHOLE,
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [1, 2]},
    {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1},
    {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "strides": [2, 1], "count_include_pad": 1},
    {"kernel_shape": [2, 2], "dilations": [2, 3]},
]
SLOW = [
    {"kernel_shape": [3, 3], "pads": [1] * 4},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "count_include_pad": 1},
]


def pooling(attributes: dict[str, Any]) -> Any:
    rows = [("Conv", "x w", "a"), ("AveragePool", "a", "p", attributes), ("Conv", "p v", "y")]
    return case_of(graph(rows, CONV, ["y"]))


@pytest.mark.parametrize("attributes", FAST, ids=str)
def test_integers_of_a_convolution(attributes: dict[str, Any]) -> None:
    case = pooling(attributes)
    assert case.plan({}).layers["p"].done is U8
    model, portable = built(case, {}), built(case, {}, portable=True)
    ran = executed(model)
    assert not {"AveragePool", "QLinearAveragePool", "LeakyRelu"} & set(ran)
    assert ran["QLinearGlobalAveragePool"] == (attributes is WHOLE)
    plain = run(portable, case.feed, "none")[0]
    for level in ("all", "none"):
        assert (
            np.mean(np.abs(run(model, case.feed, level)[0] - plain) > 1e-4) < 0.005
        )  # halves, which a processor's float may round the other way
    assert "AveragePool" in {n.op_type for n in portable.graph.node}


@pytest.mark.parametrize("attributes", SLOW, ids=str)
def test_windows_that_divide_by_different_numbers_stay(attributes: dict[str, Any]) -> None:
    case = pooling(attributes)
    assert not fast_kernel(case.model, case.model.layer["p"])
    model = built(case, {"p": U8})
    assert "AveragePool" in executed(model)
    fast, plain = (run(model, case.feed, level)[0] for level in ("all", "none"))
    assert np.mean(np.abs(fast - plain) > 1e-4) < 0.02  # halves that float arithmetic rounds the other way


@pytest.mark.parametrize("precision", [F32, I16])
def test_other_precisions_average_in_float(precision: Any) -> None:
    model = built(pooling(FAST[1]), {"p": precision})
    assert "AveragePool" in executed(model)


def test_a_shape_must_be_known() -> None:
    assert averages_windows({}, ("n", 8, "h", "w"))
    assert not averages_windows({}, ("n", "c", 8, 8))
    assert not averages_windows({}, (1, 8, 8))
    assert not averages_windows({}, None)
