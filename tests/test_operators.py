"""The operator table is whole, and says the axis of a weight right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import defs
from onnx.reference import ReferenceEvaluator

from hybridq.graph.canonical import OPSET
from hybridq.graph.operators import (
    ABSORBED,
    BIAS_INDEX,
    FIXED_RANGES,
    FLOAT_RESULT,
    MOVES_ALL_INPUTS,
    TABLE,
    UNKNOWN,
    Kernel,
    Kind,
    lookup,
    weight_axis,
)


def standard() -> list[str]:
    """Every operator of the opset that is not deprecated."""
    found = []
    for name in sorted({s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}):
        try:
            schema = defs.get_schema(name, OPSET, "")
        except onnx.onnx_cpp2py_export.defs.SchemaError:
            continue  # came later
        if not schema.deprecated:
            found.append(name)
    return found


@pytest.mark.parametrize("name", standard())
def test_every_operator_has_a_row(name: str) -> None:
    row = lookup(name)
    assert row is not UNKNOWN
    assert (row.kind in (Kind.FLOAT, Kind.SUBGRAPH)) == bool(row.note)


def test_no_row_for_what_does_not_exist() -> None:
    assert set(TABLE) - set(standard()) == set()


def test_operators_of_other_domains_stay_float() -> None:
    assert lookup("Conv", "ai.onnx") is TABLE["Conv"]
    assert lookup("Conv", "com.example").kind is Kind.FLOAT
    assert "com.example" in lookup("Conv", "com.example").note
    assert lookup("Frobnicate") is UNKNOWN


def test_the_small_tables_agree_with_the_large_one() -> None:
    assert all(TABLE[op].kind is Kind.ELEMENTWISE for op in (*FIXED_RANGES, *ABSORBED))
    assert all(TABLE[op].kind is Kind.COMPUTE for op in (*BIAS_INDEX, *FLOAT_RESULT))
    assert all(TABLE[op].kind is Kind.MOVES for op in MOVES_ALL_INPUTS)
    assert all(row.kernel is Kernel.NONE for row in TABLE.values() if row.kind in (Kind.FLOAT, Kind.SUBGRAPH))


@pytest.mark.parametrize("op", sorted(FIXED_RANGES))
def test_fixed_ranges_hold(op: str) -> None:
    x = np.linspace(-80, 80, 2001, dtype=np.float32)
    node = onnx.helper.make_node(op, ["x"], ["y"], **({"axis": 0} if op == "Softmax" else {}))
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [2001])],
        [onnx.helper.make_tensor_value_info("y", 1, [2001])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    low, high = FIXED_RANGES[op]
    assert low <= y.min() <= y.max() <= high


class TestWeightAxis:
    """The axis runs along output channels: scaling one channel's weights scales that output channel and no other."""

    @given(st.sampled_from(["Conv", "ConvTranspose", "Gemm", "Gemm^T", "MatMul", "left MatMul", "batched MatMul"]))
    def test_it_is_the_output_channel(self, kind: str) -> None:
        op, index = kind.split(" ")[-1].removesuffix("^T"), int(not kind.startswith("left"))
        shapes = {
            "Conv": ((1, 2, 4, 4), (3, 2, 3, 3), 1),
            "ConvTranspose": ((1, 2, 4, 4), (2, 3, 3, 3), 1),
            "Gemm": ((5, 2), (2, 3), 1),
            "Gemm^T": ((5, 2), (3, 2), 1),
            "MatMul": ((5, 2), (2, 3), 1),
            "left MatMul": ((2, 5), (3, 2), 0),
            "batched MatMul": ((4, 5, 2), (4, 2, 3), 2),
        }
        x_shape, w_shape, out_axis = shapes[kind]
        attributes = {"transB": 1} if kind == "Gemm^T" else {}
        axis = weight_axis(op, attributes, index, len(w_shape))
        assert axis is not None
        inputs = ["x", "w"] if index else ["w", "x"]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(op, inputs, ["y"], **attributes)],
            "g",
            [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", x_shape), ("w", w_shape))],
            [onnx.helper.make_tensor_value_info("y", 1, None)],
        )
        evaluator = ReferenceEvaluator(
            onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
        )
        random = np.random.default_rng(0)
        x, w = random.normal(size=x_shape).astype(np.float32), random.normal(size=w_shape).astype(np.float32)
        (before,) = evaluator.run(None, {"x": x, "w": w})
        np.moveaxis(w, axis, 0)[1] *= 3
        (after,) = evaluator.run(None, {"x": x, "w": w})
        ratio = np.moveaxis(after / before, out_axis, 0)
        np.testing.assert_allclose(ratio[1], 3, rtol=1e-4)
        np.testing.assert_allclose(ratio[[0, 2]], 1, rtol=1e-4)

    def test_none_where_channels_make_no_sense(self) -> None:
        assert weight_axis("ConvTranspose", {"group": 2}, 1, 4) is None
        assert weight_axis("MatMul", {}, 1, 1) is None
        assert weight_axis("Gemm", {}, 2, 1) is None
        assert weight_axis("Add", {}, 1, 4) is None
