"""Models that cannot be quantized are refused, with what is wrong and where."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_canonical import X, assert_same, conv_bn, model
from onnx import helper

from hybridq.errors import ModelError
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.given import read_model


class TestRefusals:
    """One problem, naming the file."""

    def refuse(self, path: Path, match: str) -> None:
        with pytest.raises(ModelError, match=match) as caught:
            canonicalize(read_model(path), str(path))
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].path == str(path)
        assert len(str(caught.value)) < 1000

    def test_missing(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "absent.onnx", "no such file")

    def test_folder(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "this is a folder")

    @pytest.mark.parametrize(
        "content", [b"", b"this is a text file\n", b"\x00" * 100, "größer".encode(), b"{}", b"\x08\x0a"]
    )
    def test_no_model(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        self.refuse(path, "not an ONNX model")

    @pytest.mark.parametrize("share", np.linspace(0.02, 0.999, 40))
    def test_truncated(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "model.onnx"
        whole = conv_bn().SerializeToString()
        path.write_bytes(whole[: int(len(whole) * share)])
        self.refuse(path, ".")

    @pytest.mark.parametrize("seed", range(40))
    def test_damaged(self, tmp_path: Path, seed: int) -> None:
        """Random bytes changed: refused, or still a model; never anything else."""
        random = np.random.default_rng(seed)
        data = bytearray(conv_bn().SerializeToString())
        for place in random.integers(0, 350, 3):
            data[place] = random.integers(256)
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        with contextlib.suppress(ModelError):
            canonicalize(read_model(path), str(path))

    def test_external_weights(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        onnx.save(conv_bn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert_same(conv_bn(), canonicalize(read_model(path)), X)
        data = (tmp_path / "weights.bin").read_bytes()
        (tmp_path / "weights.bin").write_bytes(data[: len(data) // 2])
        self.refuse(path, ".")
        (tmp_path / "weights.bin").write_bytes(b"")
        self.refuse(path, "weights lie in another file that cannot be read")
        (tmp_path / "weights.bin").unlink()
        self.refuse(path, "weights lie in another file, which is missing: weights.bin")

    @pytest.mark.parametrize("opset", [1, 5, 6])
    def test_ancient_opsets_end_well(self, tmp_path: Path, opset: int) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Upsample", ["r"], ["y"], scales=[1.0, 2.0])]
        path = tmp_path / "model.onnx"
        given = model(nodes, {"x": [2, 3]}, ["y"], opset=opset)
        path.write_bytes(given.SerializeToString())
        self.refuse(path, ".")

    def test_from_the_future(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(
            model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"], opset=99).SerializeToString()
        )
        self.refuse(path, "opset 99")

    def test_no_standard_operators(self, tmp_path: Path) -> None:
        given = model([helper.make_node("F", ["x"], ["y"], domain="d")], {"x": [2]}, ["y"], d=1)
        del given.opset_import[0]
        path = tmp_path / "model.onnx"
        path.write_bytes(given.SerializeToString())
        self.refuse(path, "has the operator F of")

    def test_unknown_domain(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        given = model([helper.make_node("F", ["x"], ["y"], domain="d")], {"x": [2]}, ["y"], d=1)
        path.write_bytes(given.SerializeToString())
        self.refuse(path, "the operator F of 'd', which ONNX Runtime does not know")

    def test_domain_of_onnxruntime(self) -> None:
        nodes = [
            helper.make_node("Inverse", ["x"], ["g"], domain="com.microsoft", name="inverse"),
            helper.make_node("Relu", ["g"], ["y"]),
        ]
        given = model(nodes, {"x": [2, 2]}, ["y"], **{"com.microsoft": 1})
        found = canonicalize(given)
        assert_same(given, found, {"x": np.eye(2, dtype=np.float32)})
        view = analyse(found, given)
        assert any("com.microsoft" in x.float_only for x in view.layers)
        assert "y" in view.layer

    def test_wrong_shapes(self) -> None:
        given = conv_bn()
        given.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
        with pytest.raises(ModelError, match=r"none that ONNX Runtime runs|do not fit|fails at node"):
            runtime.run(runtime.session(canonicalize(given)), {"x": np.zeros((1, 5, 8, 8), np.float32)})

    def test_a_tensor_nobody_makes(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        given = model([helper.make_node("Add", ["x", "ghost"], ["y"])], {"x": [2]}, ["y"])
        path.write_bytes(given.SerializeToString())
        self.refuse(path, ".")

    def test_local_functions_are_inlined(self) -> None:
        function = helper.make_function(
            "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
        )
        nodes = [helper.make_node("Twice", ["x"], ["t"], domain="local"), helper.make_node("Relu", ["t"], ["y"])]
        given = model(nodes, {"x": [2, 3]}, ["y"], local=1)
        given.functions.append(function)
        found = canonicalize(given)
        assert_same(given, found, {"x": np.ones((2, 3), np.float32)})
        assert [n.op_type for n in found.graph.node] == ["Add", "Relu"]
