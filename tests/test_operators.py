"""The operator table is whole, agrees with onnx's own schemas, and what its columns say holds when tried."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import defs
from onnx.reference import ReferenceEvaluator

from hybridq.calibration import datafree
from hybridq.graph import runtime
from hybridq.graph.operators import (
    TABLE,
    UNKNOWN,
    BatchRows,
    Interval,
    Kernel,
    Kind,
    Layout,
    Movement,
    Role,
    lookup,
    weight_axis,
)
from hybridq.graph.operators.columns import DataFree, Ties
from hybridq.graph.operators.weights import macs
from hybridq.graph.opset import IR_VERSION, OPSET
from hybridq.linting import spread
from hybridq.repair import channels
from hybridq.search.measuring import batch_rows

NEWEST = defs.onnx_opset_version()
TABLE_OPSET = 28  # of the onnx that the table was written against
whole = pytest.mark.skipif(NEWEST < TABLE_OPSET, reason="the installed onnx is older than the table")


def standard(opset: int) -> dict[str, defs.OpSchema]:
    """Every operator of an opset that is not deprecated."""
    found = {}
    for name in sorted({s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}):
        try:
            schema = defs.get_schema(name, opset, "")
        except onnx.onnx_cpp2py_export.defs.SchemaError:
            continue  # came later
        if not schema.deprecated:
            found[name] = schema
    return found


SCHEMAS, CANONICAL = standard(NEWEST), standard(OPSET)


def holds_float(parameter: defs.OpSchema.FormalParameter) -> bool:
    return bool(parameter.types & {"tensor(float)", "seq(tensor(float))"})


def run(op: str, *values: Any, gives: int = 1, **attributes: Any) -> np.ndarray[Any, Any]:
    if op not in SCHEMAS:
        pytest.skip("the installed onnx does not know it yet")
    arrays = {f"x{i}": np.asarray(v) for i, v in enumerate(values)}
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in arrays.items()
    ]
    node = onnx.helper.make_node(op, list(arrays), ["y"], **attributes)
    graph = onnx.helper.make_graph([node], "g", infos, [onnx.helper.make_tensor_value_info("y", gives, None)])
    opset = OPSET if op in CANONICAL else NEWEST
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    if op in CANONICAL:
        return runtime.run(runtime.session(model, threads=1), arrays)[0]
    return np.asarray(ReferenceEvaluator(model).run(None, arrays)[0])


class TestWhole:
    """Every operator has a row, and every row stands for an operator."""

    @pytest.mark.parametrize("name", SCHEMAS)
    def test_every_operator_has_a_row(self, name: str) -> None:
        row = lookup(name)
        assert row is not UNKNOWN
        assert (row.kind in (Kind.FLOAT, Kind.SUBGRAPH)) == bool(row.note)

    @whole
    def test_no_row_for_what_does_not_exist(self) -> None:
        assert set(TABLE) - set(SCHEMAS) == set()

    @whole
    @pytest.mark.parametrize("name", SCHEMAS)
    def test_every_input_has_its_role(self, name: str) -> None:
        """As many roles as the operator has inputs; those that never hold a float, and only those, are ``other``."""
        schema, inputs = SCHEMAS[name], lookup(name).inputs
        variadic = [i.option == defs.OpSchema.FormalParameterOption.Variadic for i in schema.inputs]
        assert len(inputs.roles) == len(schema.inputs)
        assert inputs.more == any(variadic)
        for role, parameter in zip(inputs.roles, schema.inputs, strict=True):
            assert (role is Role.OTHER) == (not holds_float(parameter)), parameter.name

    @pytest.mark.parametrize("name", SCHEMAS)
    def test_kinds_agree_with_the_results(self, name: str) -> None:
        gives = any(holds_float(o) for o in SCHEMAS[name].outputs)
        quantizes_or_makes = lookup(name).kind is Kind.FLOAT
        sequences = any("seq(tensor(float))" in i.types for i in [*SCHEMAS[name].inputs, *SCHEMAS[name].outputs])
        assert (lookup(name).kind is not Kind.OTHER) == gives or quantizes_or_makes or sequences

    @pytest.mark.parametrize("name", SCHEMAS)
    def test_what_draws_can_be_seeded(self, name: str) -> None:
        assert lookup(name).draws == ("seed" in SCHEMAS[name].attributes and name != "Dropout")

    def test_operators_of_other_domains_stay_float(self) -> None:
        assert lookup("Conv", "ai.onnx") is TABLE["Conv"]
        assert lookup("Conv", "com.example").kind is Kind.FLOAT
        assert "com.example" in lookup("Conv", "com.example").note
        assert lookup("Frobnicate") is UNKNOWN

    def test_every_word_of_a_column_has_its_rule(self) -> None:
        """What stays with its user is found by the column's word: no word without a rule, no rule without a word."""
        assert set(batch_rows.RULES) == set(BatchRows)
        assert set(datafree.RULES) == set(DataFree)
        assert set(channels.RULES) == set(Ties) - {Ties.ABSORBED, Ties.FIXED}
        moved = {Interval.SAME, Interval.RESHAPED, Interval.TRANSPOSED, Interval.JOINED, Interval.PICKED, Interval.HULL}
        assert set(spread.ARITHMETIC) == set(Interval) - moved - {Interval.CHANNELS, Interval.MEASURED}
        for column in (Kind, Kernel, Role, Movement, Layout, BatchRows, Interval, DataFree, Ties):
            assert len({str(word) for word in column}) == len(column)

    def test_columns_agree(self) -> None:
        for name, row in TABLE.items():
            assert (row.kind is Kind.MOVEMENT) == (row.movement is not Movement.NONE), name
            assert (row.kind is Kind.COMPUTE) == (row.channel_axis is not None), name
            assert (row.kind is Kind.COMPUTE) == (row.layout not in (Layout.NONE, Layout.RECURRENT, Layout.TABLE)), name
            assert (row.ties is Ties.ABSORBED) == (row.kind is Kind.COMPUTE), name
            assert (row.rows in (BatchRows.AXIS,)) == (row.axis is not None), name
            assert row.slope is None or row.makes_scores, name
            assert row.saves == 0 or row.kernel is Kernel.FAST, name
            assert row.data_free is not DataFree.FIXED or row.fixed_range is not None, name
            if row.kind in (Kind.FLOAT, Kind.SUBGRAPH, Kind.OTHER):
                assert row.kernel is Kernel.NONE, name


class TestRanges:
    """A range holds for any input."""

    @pytest.mark.parametrize("op", sorted(n for n, r in TABLE.items() if r.range is not None))
    def test_it_holds(self, op: str) -> None:
        x = np.linspace(-80, 80, 2001, dtype=np.float32)
        x = np.abs(x) if op == "Sqrt" else x
        window = "Pool" in op
        given: dict[str, Any] = {"kernel_shape": [3]} if op == "LpPool" else {}
        given |= {"axis": -1} if op in ("Softmax", "LogSoftmax", "Hardmax") else {}
        y = run(op, x.reshape(1, 1, -1) if window else x, **given)
        low, high = TABLE[op].range or (0.0, 0.0)
        assert low <= y.min() <= y.max() <= high

    @pytest.mark.parametrize("op", sorted(n for n, r in TABLE.items() if r.keeps_unit))
    def test_units_stay_units(self, op: str) -> None:
        random = np.random.default_rng(0)
        values = random.random((2, 50)).astype(np.float32)
        y = run(op, *values[: 1 if op == "Sqrt" else 2])
        assert 0 <= y.min() <= y.max() <= 1

    @pytest.mark.parametrize("op", sorted(n for n, r in TABLE.items() if r.slope is not None))
    def test_no_slope_is_steeper(self, op: str) -> None:
        x = np.linspace(-6, 6, 601, dtype=np.float32)
        pair = np.stack([x, np.zeros_like(x)]) if op == "Softmax" else x
        y = run(op, pair, **({"axis": 0} if op == "Softmax" else {}))
        steepest = np.abs(np.diff((y[0] if op == "Softmax" else y).astype(np.float64)) / np.diff(x)).max()
        assert steepest == pytest.approx(TABLE[op].slope, rel=1e-2)

    @pytest.mark.parametrize("op", sorted(n for n, r in TABLE.items() if r.pointwise and len(r.inputs.roles) == 1))
    def test_what_is_steep_has_no_steepest_slope_near_zero(self, op: str) -> None:
        x = np.geomspace(1e-6, 1e-3, 20, dtype=np.float32)
        y = run(op, x, **({"alpha": 0.5} if op == "ThresholdedRelu" else {})).astype(np.float64)
        assert TABLE[op].steep == bool(np.abs(np.diff(y) / np.diff(x)).max() > 100)

    @pytest.mark.parametrize("op", sorted(n for n, r in TABLE.items() if r.retypes))
    def test_what_retypes_keeps_the_values(self, op: str) -> None:
        x = np.arange(5, dtype=np.float32)
        y = run(
            op,
            x,
            *([np.zeros(1, np.int32)] if op == "CastLike" else []),
            gives=6,
            **({"to": 6} if op == "Cast" else {}),
        )
        assert (y.dtype, y.tolist()) == (np.int32, [0, 1, 2, 3, 4])


MOVEMENT: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "CenterCropPad": ([np.array([2, 2])], {"axes": [2, 3]}),
    "DepthToSpace": ([], {"blocksize": 2}),
    "SpaceToDepth": ([], {"blocksize": 2}),
    "Dropout": ([], {}),
    "Expand": ([np.array([2, 4, 4, 4])], {}),
    "Gather": ([np.array([1, 0])], {"axis": 1}),
    "GatherElements": ([np.zeros((1, 4, 4, 4), np.int64)], {}),
    "GatherND": ([np.zeros((1, 2), np.int64)], {}),
    "MaxPool": ([], {"kernel_shape": [2, 2]}),
    "Pad": ([np.array([0, 0, 1, 1, 0, 0, 1, 1])], {"mode": "edge"}),
    "ReduceMax": ([np.array([1])], {}),
    "ReduceMin": ([np.array([1])], {}),
    "Reshape": ([np.array([4, 16])], {}),
    "Resize": ([np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
    "ReverseSequence": ([np.array([1, 1, 1, 1])], {"time_axis": 0, "batch_axis": 1}),
    "Slice": ([np.array([1]), np.array([3]), np.array([2])], {}),
    "Split": ([np.array([4])], {"axis": 1}),
    "Squeeze": ([np.array([0])], {}),
    "Tile": ([np.array([1, 1, 2, 1])], {}),
    "Unsqueeze": ([np.array([0])], {}),
}


@pytest.mark.parametrize("op", sorted(n for n, r in TABLE.items() if r.kind is Kind.MOVEMENT))
def test_movement_makes_no_new_value(op: str) -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    more, attributes = MOVEMENT.get(op, ([], {}))
    y = run(op, x, *more, **attributes, **({"axis": 1} if op == "Concat" else {}))
    assert set(y.ravel().tolist()) <= set(x.ravel().tolist())


@pytest.mark.parametrize("op", sorted(n for n, r in TABLE.items() if r.ties is Ties.HOMOGENEOUS))
def test_homogeneous_operators_scale(op: str) -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    more = [np.float32(0.25)] if op == "PRelu" else []
    given = {"kernel_shape": [2, 2]} if op in ("MaxPool", "AveragePool") else {}
    np.testing.assert_allclose(run(op, 2 * x, *more, **given), 2 * run(op, x, *more, **given), rtol=1e-6)


@pytest.mark.parametrize(
    "op",
    sorted(
        n
        for n, r in TABLE.items()
        if r.rows is BatchRows.APART and r.inputs.roles == (Role.DATA,) and r.kind is not Kind.OTHER
    ),
)
def test_rows_stay_apart(op: str) -> None:
    """Two rows at once give what each gives alone."""
    x = np.random.default_rng(0).uniform(0.1, 0.9, (2, 4, 4, 4)).astype(np.float32)
    given: dict[str, Any] = {"kernel_shape": [2, 2]} if op in ("MaxPool", "AveragePool", "LpPool") else {}
    given |= {"blocksize": 2} if op in ("DepthToSpace", "SpaceToDepth") else {}
    given |= {"size": 3} if op == "LRN" else {}
    both = run(op, x, **given)
    np.testing.assert_allclose(both, np.concatenate([run(op, x[:1], **given), run(op, x[1:], **given)]), rtol=1e-6)


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
        axis = weight_axis(lookup(op).layout, attributes, index, len(w_shape))
        assert axis is not None
        random = np.random.default_rng(0)
        x, w = random.normal(size=x_shape).astype(np.float32), random.normal(size=w_shape).astype(np.float32)
        before = run(op, *((x, w) if index else (w, x)), **attributes)
        assert kind.startswith("left") or (lookup(op).channel_axis or 0) % before.ndim == out_axis
        np.moveaxis(w, axis, 0)[1] *= 3
        after = run(op, *((x, w) if index else (w, x)), **attributes)
        ratio = np.moveaxis(after / before, out_axis, 0)
        np.testing.assert_allclose(ratio[1], 3, rtol=1e-4)
        np.testing.assert_allclose(ratio[[0, 2]], 1, rtol=1e-4)

    def test_none_where_channels_make_no_sense(self) -> None:
        assert weight_axis(Layout.CONV_TRANSPOSE, {"group": 2}, 1, 4) is None
        assert weight_axis(Layout.MATMUL, {}, 1, 1) is None
        assert weight_axis(Layout.GEMM, {}, 2, 1) is None
        assert weight_axis(Layout.NONE, {}, 1, 4) is None


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_a_product_multiplies_rows_times_inputs_times_columns(trans_a: int, trans_b: int) -> None:
    rows, inputs, columns = 3, 5, 7
    left, right = (inputs, rows)[:: -1 if not trans_a else 1], (columns, inputs)[:: -1 if not trans_b else 1]
    attributes = {"transA": trans_a, "transB": trans_b}
    assert macs(Layout.GEMM, attributes, left, right, (rows, columns)) == rows * inputs * columns
    stacked = macs(Layout.MATMUL, {}, (2, rows, inputs), (inputs, columns), (2, rows, columns))
    assert stacked == 2 * rows * inputs * columns


def test_a_convolution_multiplies_every_output_by_its_kernel() -> None:
    assert macs(Layout.CONV, {"group": 2}, (1, 8, 9, 9), (6, 4, 3, 3), (1, 6, 7, 7)) == 6 * 7 * 7 * 4 * 3 * 3
    assert macs(Layout.CONV_TRANSPOSE, {}, (1, 6, 7, 7), (6, 4, 3, 3), (1, 4, 9, 9)) == 6 * 7 * 7 * 4 * 3 * 3
    assert macs(Layout.NONE, {}, (1, 4, "n"), None, (1, 4, "n")) == 4
