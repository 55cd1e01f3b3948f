"""The canonical graph to layers and groups: roles, names, ties, costs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from random_graphs import expose, random_case, run

from hybridq.graph import operators
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.given import read_model
from hybridq.graph.model import Model
from hybridq.graph.operators import Kind
from hybridq.graph.view import Sharing

FLOAT = TensorProto.FLOAT
W = np.ones((8, 8, 1, 1), np.float32)


def proto(
    rows: list[tuple[Any, ...]], tensors: dict[str, Any], outputs: list[str], shape: tuple[Any, ...] = (1, 8, 6, 6)
) -> ModelProto:
    """``(op, inputs, outputs, attributes)`` rows, reading ``x``."""
    graph = helper.make_graph(
        [
            helper.make_node(r[0], r[1].split(), r[2].split(), name=f"{r[0]}.{i}", **(r[3] if r[3:] else {}))
            for i, r in enumerate(rows)
        ],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(o, FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def view(rows: list[tuple[Any, ...]], tensors: dict[str, Any], outputs: list[str], **options: Any) -> Model:
    shape = options.pop("shape", (1, 8, 6, 6))
    given = proto(rows, tensors, outputs, shape)
    return analyse(canonicalize(given), given, **options)


class TestAbsorbing:
    def test_relu_names_the_layer(self) -> None:
        found = view([("Conv", "x w", "c"), ("Relu", "c", "y")], {"w": W}, ["y"]).layers
        assert [(x.name, x.op, x.activation_op) for x in found] == [("y", "Conv", "Relu")]
        assert {"c", "Conv.0", "Relu.1"} <= set(found[0].aliases)

    @pytest.mark.parametrize(
        ("low", "high", "absorbed"), [(0, 6, True), (-1, 1, True), (0.5, 2, False), (-2, -1, False)]
    )
    def test_clips_that_keep_zero(self, low: float, high: float, absorbed: bool) -> None:
        tensors = {"w": W, "low": np.float32(low), "high": np.float32(high)}
        found = view([("Conv", "x w", "c"), ("Clip", "c low high", "y")], tensors, ["y"]).layers
        assert [x.name for x in found] == (["y"] if absorbed else ["c", "y"])

    def test_not_when_somebody_else_reads(self) -> None:
        rows = [("Conv", "x w", "c"), ("Relu", "c", "r"), ("Add", "c r", "y")]
        assert [x.name for x in view(rows, {"w": W}, ["y"]).layers] == ["c", "r", "y"]

    def test_not_when_it_leaves_the_graph(self) -> None:
        rows = [("Conv", "x w", "c"), ("Relu", "c", "y")]
        assert [x.name for x in view(rows, {"w": W}, ["c", "y"]).layers] == ["c", "y"]

    def test_elementwise_layers_absorb_too(self) -> None:
        rows = [("Conv", "x w", "c"), ("Add", "c x", "a"), ("Relu", "a", "y")]
        found = view(rows, {"w": W}, ["y"]).layer
        assert found.keys() == {"c", "y"} or found.keys() == {"y"}
        assert found["y"].activation_op == "Relu"


class TestGroups:
    @pytest.mark.parametrize(
        ("op", "extra", "attributes"),
        [
            ("Transpose", "", {"perm": [0, 2, 3, 1]}),
            ("MaxPool", "", {"kernel_shape": [2, 2]}),
            ("Reshape", " shape", {}),
            ("Flatten", "", {}),
            ("Pad", " pads", {}),
            ("Slice", " one six", {}),
            ("Gather", " index", {"axis": 1}),
            ("ReduceMax", " axes", {}),
            ("DepthToSpace", "", {"blocksize": 2}),
        ],
    )
    def test_movers_tie(self, op: str, extra: str, attributes: dict[str, Any]) -> None:
        tensors = {
            "w": W,
            "shape": np.array([1, -1]),
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
            "one": np.array([1, 1, 1, 1][:1]),
            "six": np.array([6]),
            "index": np.array([1, 0]),
            "axes": np.array([2, 3]),
        }
        found = view([("Conv", "x w", "c"), (op, "c" + extra, "m", attributes), ("Sigmoid", "m", "y")], tensors, ["y"])
        assert found.group_of["m"] is found.group_of["c"]
        assert found.group_of["m"].sources == ("c",)
        assert "m" not in found.layer

    @pytest.mark.parametrize("value", [1.0, -3.0])
    def test_padding_with_values_is_a_layer(self, value: float) -> None:
        tensors = {"w": W, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": np.float32(value)}
        found = view([("Conv", "x w", "c"), ("Pad", "c pads v", "m"), ("Sigmoid", "m", "y")], tensors, ["y"])
        assert "m" in found.layer

    def test_concat_ties_its_inputs(self) -> None:
        rows = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Concat", "a b", "c", {"axis": 1}), ("Sigmoid", "c", "y")]
        found = view(rows, {"w": W, "v": 2 * W}, ["y"])
        assert found.group["a"].sources == ("a", "b")
        assert found.group["a"].layers == ("a", "b")

    def test_concat_for_an_output_ties_only_where_the_target_does(self) -> None:
        rows = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Concat", "a b", "c", {"axis": 1})]
        assert view(rows, {"w": W, "v": 2 * W}, ["c"]).group["a"].tensors == ("a",)
        assert set(view(rows, {"w": W, "v": 2 * W}, ["c"], sharing=Sharing(outputs=True)).group["a"].tensors) == {
            "a",
            "b",
            "c",
        }

    def test_split_shares_with_its_parts(self) -> None:
        rows = [("Conv", "x w", "a"), ("Split", "a", "b c", {"axis": 1, "num_outputs": 2}), ("Add", "b c", "y")]
        assert set(view(rows, {"w": W}, ["y"]).group["a"].tensors) == {"a", "b", "c"}

    @pytest.mark.parametrize(("op", "known"), [("Sigmoid", (0, 1)), ("Tanh", (-1, 1)), ("Exp", None)])
    def test_fixed_ranges(self, op: str, known: tuple[float, float] | None) -> None:
        assert view([(op, "x", "y")], {}, ["y"]).group["y"].fixed == known

    def test_a_fixed_range_ends_where_a_measured_one_joins(self) -> None:
        rows = [("Sigmoid", "x", "a"), ("Conv", "x w", "b"), ("Concat", "a b", "c", {"axis": 1}), ("Exp", "c", "y")]
        assert view(rows, {"w": W}, ["y"]).group["a"].fixed is None


class TestCosts:
    @pytest.mark.parametrize(
        ("row", "weight", "macs"),
        [
            (("Conv", "x w", "y", {"pads": [1] * 4}), (4, 8, 3, 3), 4 * 36 * 8 * 9),
            (("Conv", "x w", "y", {"group": 8, "pads": [1] * 4}), (8, 1, 3, 3), 8 * 36 * 9),
            (("ConvTranspose", "x w", "y", {"strides": [2, 2]}), (8, 4, 2, 2), 8 * 36 * 4 * 4),
            (("MatMul", "x w", "y"), (6, 10), 8 * 6 * 10 * 6),
            (("Sigmoid", "x", "y"), (), 8 * 36),
        ],
    )
    def test_multiply_accumulates(self, row: tuple[Any, ...], weight: tuple[int, ...], macs: int) -> None:
        (layer,) = view([row], {"w": np.ones(weight, np.float32)}, ["y"]).layers
        assert layer.macs == macs

    def test_dynamic_axes_count_one(self) -> None:
        (layer,) = view([("Conv", "x w", "y")], {"w": W}, ["y"], shape=("n", 8, 6, 6)).layers
        assert layer.macs == 8 * 36 * 8


class TestNames:
    def test_folded_batch_norm_is_an_alias(self) -> None:
        tensors: dict[str, Any] = {"w": W} | {k: np.ones(8, np.float32) for k in "abcd"}
        rows = [
            ("Conv", "x w", "conv_out"),
            ("BatchNormalization", "conv_out a b c d", "bn_out"),
            ("Relu", "bn_out", "y"),
        ]
        found = view(rows, tensors, ["y"])
        (layer,) = found.layers
        assert {"conv_out", "bn_out", "BatchNormalization.1", "Conv.0"} <= set(layer.aliases)
        assert all(found.names[a] == "y" for a in layer.aliases)

    def test_identity_is_an_alias(self) -> None:
        rows = [("Conv", "x w", "c"), ("Identity", "c", "i"), ("Relu", "i", "y")]
        assert "i" in view(rows, {"w": W}, ["y"]).layers[0].aliases


class TestLaws:
    """Over random graphs."""

    @pytest.mark.parametrize("seed", range(40))
    def test_every_tensor_has_one_place(self, seed: int) -> None:
        case = random_case(seed)
        found = case.model
        tensors = [t for g in found.groups for t in g.tensors]
        assert len(set(tensors)) == len(tensors)
        assert len({x.name for x in found.layers}) == len(found.layers)
        for layer in found.layers:
            assert layer.name in found.group[layer.group].sources
            assert layer.name in found.group[layer.group].layers
            for name in layer.inputs:
                assert found.tensors[name].dtype == "float32"
        nodes = {x.node for x in found.layers} | {x.activation for x in found.layers if x.activation}
        for node in found.proto.graph.node:
            if node.name not in nodes:
                assert operators.lookup(node.op_type).kind in (Kind.MOVEMENT, Kind.OTHER), node.op_type

    @pytest.mark.parametrize("seed", range(40))
    def test_movers_only_move(self, seed: int) -> None:
        """Every value of a group's tensors is a value of one of its sources, or zero."""
        case = random_case(seed)
        names = [t for g in case.model.groups for t in g.tensors if t not in case.feed]
        exposed = expose(case.proto, names)
        values: dict[str, Any] = dict(
            zip([o.name for o in exposed.graph.output], run(exposed, case.feed, "none"), strict=True)
        )
        values |= case.feed
        for group in case.model.groups:
            known = np.unique(np.concatenate([[0.0], *(values[s].ravel() for s in group.sources)]))
            for tensor in group.tensors:
                assert np.isin(values[tensor], known).all(), tensor


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["ultraface_rfb320", "yunet_n", "fastestdet", "pfld_ghostone", "silero_vad"])
def test_zoo_names(zoo: ModuleType, name: str) -> None:
    """Every float tensor and node of the given model that still exists in some form has a name that finds its layer."""
    given = read_model(Path(zoo.load(name).model_path))
    found = analyse(canonicalize(given), given)
    known = set(found.names) | set(found.group_of)
    computing = [n for n in given.graph.node if n.op_type in ("Conv", "Gemm", "Sigmoid", "Relu", "BatchNormalization")]
    missing = [n.output[0] for n in computing if n.output[0] not in known]
    assert not missing
    assert all(isinstance(n, onnx.NodeProto) for n in found.nodes.values())
