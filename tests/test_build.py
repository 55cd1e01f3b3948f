"""What the builder writes, case by case: exactness where ONNX Runtime rewrites, few conversions, integer kernels."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_build import assert_close_to_float, assert_same_at_all_levels, ops
from helpers_graphs import CHAIN, F16, F32, FLOAT, I8, I16, U8, built, case_of, given, normal
from onnx import ModelProto, TensorProto
from qdq_graphs import executed, optimized
from random_graphs import make_case, run

from hybridq.build.packing import to_half
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.given import read_model
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerChoice


def node_of(model: ModelProto, output: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if output in n.output)


def test_the_names_of_what_is_added_are_short() -> None:
    """Exporters name a tensor after everything that made it; a small file would be names for the most part."""
    long = {name: f"{name};" + "model/block/FusedBatchNorm;" * 8 for name in "abc"}
    rows = [("Conv", "x w", long["a"]), ("Relu", long["a"], long["b"]), ("Conv", f"{long['b']} v", long["c"])]
    case = case_of(given(rows, {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1)}, [long["c"]]))
    model = built(case, {})
    kept = {*long.values(), *(i.name for i in model.graph.input)}
    added = {n for node in model.graph.node for n in (*node.input, *node.output)} - kept
    assert len(added) > 6
    assert max(map(len, added)) < 70


class TestFloatAmongIntegers:
    """A float computation between integers stays one, to the last bit."""

    @pytest.mark.parametrize("precision", [F32, F16, I16])
    @pytest.mark.parametrize("activation", ["", "Relu", "Clip"])
    @pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
    def test_layers_among_integers(self, op: str, activation: str, precision: Precision) -> None:
        flat = op in ("Gemm", "MatMul")
        weight = normal(8, 8) if flat else normal(8, 8, 1, 1)
        rows: list[tuple[Any, ...]] = [
            (op, "x w", "a"),
            ("Relu", "a", "r"),
            (op, "r w" + ("" if op == "MatMul" else " b"), "m"),
        ]
        last = "m"
        if op == "MatMul":
            rows, last = [*rows, ("Add", "m b", "s")], "s"
        if activation:
            rows, last = [*rows, (activation, last + (" low high" if activation == "Clip" else ""), "t")], "t"
        rows.append((op, f"{last} w", "y"))
        tensors = {"w": weight, "b": normal(8), "low": np.float32(0), "high": np.float32(4)}
        feed = {"x": normal(40, 8) if flat else normal(4, 8, 8, 8)}
        case = case_of(given(rows, tensors, ["y"], ("n", *feed["x"].shape[1:])), feed)
        model = built(case, {x.name: precision for x in case.model.layers if x.name in ("m", "s", "t")})
        assert_same_at_all_levels(model, feed)

    def test_a_conversion_behind_a_float_layer(self) -> None:
        """The result leaves the graph in float, and a quantizer reads it, too."""
        model = given(
            [("Conv", "x w", "a"), ("Conv", "a v", "m"), ("Conv", "m w", "y")],
            {
                "w": normal(8, 8, 1, 1),
                "v": normal(8, 8, 1, 1) * np.geomspace(0.01, 10, 8, dtype=np.float32).reshape(-1, 1, 1, 1),
            },
            ["m", "y"],
        )
        case = case_of(model)
        hybrid = built(case, {"m": F32})
        assert_same_at_all_levels(hybrid, case.feed)
        alone = case.build(case.plan({**case.all(F32), "a": U8}))
        np.testing.assert_allclose(run(hybrid, case.feed)[0], run(alone, case.feed)[0], rtol=1e-4, atol=1e-4)

    def test_through_maxpool(self) -> None:
        model = given(
            [
                ("Conv", "x w", "a"),
                ("Relu", "a", "r"),
                ("Conv", "r w", "m"),
                ("MaxPool", "m", "p", {"kernel_shape": [2, 2]}),
                ("Conv", "p w", "y"),
            ],
            {"w": normal(8, 8, 1, 1)},
            ["y"],
        )
        case = case_of(model)
        hybrid = built(case, {"m": F32})
        assert_same_at_all_levels(hybrid, case.feed)
        graph = optimized(hybrid).node
        pool = next(n for n in graph if n.op_type == "MaxPool")
        integers = [o for n in graph if n.op_type in ("QuantizeLinear", "DequantizeLinear") for o in n.output]
        assert pool.input[0] not in integers

    def test_the_barrier_costs_nothing_behind_a_relu(self) -> None:
        case = case_of(CHAIN)
        assert executed(built(case, {"r2": F32}))["LeakyRelu"] == 0


class TestOneForm:
    """A tensor has one stored form of a width."""

    def test_no_second_quantizer_of_the_same_width(self) -> None:
        """int8 and uint8 layers side by side: a tensor has one form."""
        case = case_of(CHAIN)
        model = built(case, {"r2": I8})
        producers = {o: n for n in model.graph.node for o in n.output}
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[0] in producers:
                assert producers[node.input[0]].op_type != "DequantizeLinear"


class TestBoundaries:
    def test_a_conversion_is_shared(self) -> None:
        rows = [("Conv", "x w", "a"), *[("Conv", "a w", f"y{i}") for i in range(3)], ("Conv", "a v", "z")]
        case = case_of(given(rows, {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1)}, ["y0", "y1", "y2", "z"]))
        model = built(case, {"a": I16, "z": I16})
        readers = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "a"]
        assert len(readers) == 1
        assert [node_of(model, o).input[0] for o in ("y0/float", "y1/float")] == ["a/as_uint8"] * 2

    def test_none_from_eight_bits_up(self) -> None:
        model = built(case_of(CHAIN), {"r2": I16, "y": F32})
        assert not [
            o
            for n in model.graph.node
            for o in n.output
            if "/as_" in o and o.split("/")[0] not in ("w1", "w2", "w3", "b1", "b2", "b3")
        ]
        assert node_of(model, "m").input[0] == "r1"

    def test_written_in_the_narrower_precision_at_once(self) -> None:
        model = built(case_of(CHAIN), {"r2": I16})
        assert node_of(model, "r2/uint8").op_type == "QuantizeLinear"
        assert "r2/int16" not in [o for n in model.graph.node for o in n.output]

    def test_an_island_of_two(self) -> None:
        model = built(case_of(CHAIN), {"r2": I16, "y": I16})
        assert node_of(model, "r2/int16").op_type == "QuantizeLinear"

    def test_an_output_that_a_quantized_layer_reads(self) -> None:
        model = given(
            [("Conv", "x w", "a"), ("Relu", "a", "r"), ("Conv", "r w", "y")], {"w": normal(8, 8, 1, 1)}, ["r", "y"]
        )
        case = case_of(model)
        assert_close_to_float(case, built(case, {}), 20)
        assert [o.name for o in built(case, {}).graph.output] == ["r", "y"]

    def test_a_shared_initializer_in_three_precisions(self) -> None:
        rows = [("Conv", "x w b", "a"), ("Conv", "x w b", "m"), ("Conv", "x w b", "y"), ("Conv", "x w b", "z")]
        case = case_of(given(rows, {"w": normal(8, 8, 1, 1), "b": normal(8)}, ["a", "m", "y", "z"]))
        names = [x.name for x in case.model.layers]
        if len(names) == 4:  # equal nodes may have become one
            model = built(case, dict(zip(names, [U8, F32, I16, F16], strict=True)))
            kinds = {t.data_type for t in model.graph.initializer if t.name.split("/")[0] == "w" and t.dims[1:]}
            assert kinds == {TensorProto.INT8, FLOAT, TensorProto.INT16, TensorProto.FLOAT16}
            assert_close_to_float(case, model, 25)

    def test_a_weight_shared_by_integer_layers_is_stored_once(self) -> None:
        rows = [("Conv", "x w", "a"), ("Conv", "a w", "y")]
        model = built(case_of(given(rows, {"w": normal(8, 8, 1, 1)}, ["y"])), {})
        assert len([t for t in model.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 4]) == 1
        assert "w" not in [t.name for t in model.graph.initializer]

    def test_movers_of_more_than_eight_bits_are_not_rounded_again(self) -> None:
        rows = [("Conv", "x w", "a"), ("Transpose", "a", "t", {"perm": [0, 1, 3, 2]}), ("Conv", "t w", "y")]
        for precision in (I16, F16):
            model = built(case_of(given(rows, {"w": normal(8, 8, 1, 1)}, ["y"])), {"a": precision, "y": precision})
            assert node_of(model, "y/float").input[0] == "t"
            assert node_of(model, "t").op_type == "Transpose"


class TestFloats:
    def test_float32_is_the_canonical_graph(self) -> None:
        case = case_of(CHAIN)
        model = built(case, case.all(F32))
        assert ops(model) == [n.op_type for n in case.proto.graph.node]
        np.testing.assert_array_equal(run(model, case.feed)[0], run(case.proto, case.feed)[0])

    def test_float16_is_storage(self) -> None:
        case = case_of(CHAIN)
        model = built(case, case.all(F16))
        assert {t.data_type for t in model.graph.initializer if t.dims and len(t.dims) == 4} == {TensorProto.FLOAT16}
        assert_close_to_float(case, model, 60)
        assert {o.type.tensor_type.elem_type for o in model.graph.output} == {FLOAT}

    def test_half_weights_saturate(self) -> None:
        assert to_half(np.float32([1e6, -1e6, 1.0])).tolist() == [65504.0, -65504.0, 1.0]

    def test_values_beyond_float16_stay_float32(self) -> None:
        rows = [("Mul", "x big", "a"), ("Conv", "a w", "y")]
        case = case_of(given(rows, {"big": np.float32(1e5), "w": normal(8, 8, 1, 1)}, ["y"]))
        plan = case.plan(case.all(F16))
        assert plan.layers["a"].done is F32
        assert "float16 ends at 65504" in plan.layers["a"].why
        assert np.isfinite(run(case.build(plan), case.feed)[0]).all()

    @pytest.mark.parametrize("stored", [I8, I16])
    @pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
    def test_weight_only(self, op: str, stored: Precision) -> None:
        flat = op in ("Gemm", "MatMul")
        tensors = {"w": normal(8, 8) if flat else normal(8, 8, 3, 3)}
        feed = {"x": normal(4, 8) if flat else normal(4, 8, 8, 8)}
        case = case_of(given([(op, "x w", "y")], tensors, ["y"], ("n", *feed["x"].shape[1:])), feed)
        model = built(case, {"y": LayerChoice(F32, weight_only=stored)})
        kinds = {
            t.data_type
            for t in model.graph.initializer
            if len(t.dims) == tensors["w"].ndim and t.dims[0] == 8 and t.dims[1] == 8
        }
        assert kinds == {stored.onnx}
        assert not {"QuantizeLinear", "DequantizeLinear"} & set(ops(model))
        assert_close_to_float(case, model, 35 if stored is I8 else 80)
        assert set(executed(model)) <= {op, "ReorderInput", "ReorderOutput", "FusedMatMul"}


class TestFile:
    def test_head(self) -> None:
        case = case_of(CHAIN)
        model = built(case, {"r2": F32})
        assert model.ir_version == 10
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]
        assert model.graph.input == case.proto.graph.input
        assert [o.name for o in model.graph.output] == ["y"]
        props = {p.key: p.value for p in model.metadata_props}
        assert props["hybridq.target"] == "onnxruntime"
        assert json.loads(props["hybridq.precisions"]) == {"r1": "uint8", "r2": "float32", "y": "uint8"}

    def test_names_taken_by_the_model(self) -> None:
        """The given model uses the very names that the builder would."""
        rows = [
            ("Relu", "x", "a/float"),
            ("Conv", "a/float w", "a"),
            ("Relu", "a", "a/uint8"),
            ("Conv", "a/uint8 w", "y"),
        ]
        case = case_of(given(rows, {"w": normal(8, 8, 1, 1)}, ["y", "a", "a/float"]))
        model = built(case, {})
        tensors = [o for n in model.graph.node for o in n.output] + [t.name for t in model.graph.initializer]
        assert len(set(tensors)) == len(tensors)
        assert_close_to_float(case, model, 20)

    def test_same_plan_same_bytes(self) -> None:
        found = [built(case_of(CHAIN, {"x": np.ones((1, 8, 8, 8), np.float32)}), {"r2": I16}) for _ in range(2)]
        assert found[0].SerializeToString(deterministic=True) == found[1].SerializeToString(deterministic=True)

    def test_portable_has_plain_operators_only(self) -> None:
        model = built(case_of(CHAIN), {"r2": I16}, portable=True)
        assert "LeakyRelu" not in ops(model)
        assert ops(model).count("Relu") == 2


@pytest.mark.zoo
class TestZoo:
    NAMES = ("ultraface_rfb320", "yunet_n", "fastestdet", "squeezenet", "vww_mobilenet", "pfld_ghostone", "silero_vad")

    @pytest.mark.parametrize("name", NAMES)
    def test_every_precision(self, zoo: ModuleType, name: str) -> None:
        """Valid and runnable; float32 to the bit; 16 bits nearly so; 8 bits in integer kernels."""
        held = zoo.load(name)
        feed = next(iter(held.calibration()))
        case = make_case(read_model(Path(held.model_path)), feed)
        reference = run(case.proto, feed)
        for found, expected in zip(run(built(case, case.all(F32)), feed), reference, strict=True):
            np.testing.assert_array_equal(found, expected)
        half = case.build(case.plan(case.all(I16)))
        onnx.checker.check_model(half, full_check=True)
        for found, expected in zip(run(half, feed), reference, strict=True):
            noise = float(np.mean((found.astype(np.float64) - expected) ** 2))
            assert noise < 10**-4.5 * float(np.mean(expected.astype(np.float64) ** 2)) + 1e-9  # a Sigmoid's LSB squared
        eight = built(case, {})
        run(eight, feed)
        convolutions = [x for x in case.model.layers if x.op == "Conv"]
        assert executed(eight)["QLinearConv"] == ops(eight).count("Conv") >= len(convolutions)
        assert "AveragePool" not in ops(eight)  # those of the zoo are convolutions in disguise

    def test_view_of_silero(self, zoo: ModuleType) -> None:
        proto = canonicalize(read_model(Path(zoo.load("silero_vad").model_path)))
        view = analyse(proto)
        assert {x.op for x in view.layers if x.float_only} >= {"If"}
