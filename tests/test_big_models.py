"""Models whose weights stay in files: the same results as in memory, and a memory that holds few of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import hybridq
from hybridq.errors import ModelError, StorageError
from hybridq.files.temporary import Scratch
from hybridq.graph import onnx_file, outside, runtime
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.given import read_model
from hybridq.graph.load import load
from hybridq.graph.outside import any_outside, values_of
from hybridq.repair import bias_correction
from hybridq.search.for_step1 import measure, weight_repair

FILES = ("model.json", "weights.data", "model.quantization.cfg", "hybrid.onnx")
WIDTH = 48


def mlp(opset: int = 17, kind: type = np.float32) -> ModelProto:
    """Three products with biases, one of them folded from a sum of constants."""
    rng = np.random.default_rng(0)
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes, weights, x = [], [], "x"
    for i in range(3):
        weights.append(numpy_helper.from_array((rng.normal(size=(WIDTH, WIDTH)) / 7).astype(kind), f"w{i}"))
        weights.append(numpy_helper.from_array((rng.normal(size=(WIDTH, WIDTH)) / 9).astype(kind), f"v{i}"))
        weights.append(numpy_helper.from_array(rng.normal(size=WIDTH).astype(kind), f"b{i}"))
        nodes += [
            helper.make_node("Add", [f"w{i}", f"v{i}"], [f"s{i}"]),
            helper.make_node("MatMul", [x, f"s{i}" if i == 1 else f"w{i}"], [f"m{i}"]),
            helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"]),
            helper.make_node("Relu", [f"a{i}"], [f"r{i}"]),
        ]
        x = f"r{i}"
    values = [helper.make_tensor_value_info(name, elem, [1, WIDTH]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let weights of a few kilobytes count as large."""
    monkeypatch.setattr(outside, "LARGE", 4096)
    monkeypatch.setattr(outside, "LEAST", 1024)


def written(folder: Path, *, beside: bool, opset: int = 17) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    more = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 100} if beside else {}
    onnx.save(mlp(opset), path, **more)
    for i in range(3):
        np.save(folder / f"{i}.npy", np.random.default_rng(i).normal(size=(1, WIDTH)).astype(np.float32))
    (folder / "list.txt").write_text("0.npy\n1.npy\n2.npy\n")
    return path


def flow(path: Path, out: str, **options: object) -> dict[str, object]:
    """All steps; the files, and the figures of the report."""
    folder = path.parent / out
    hybridq.step1(path, path.parent / "list.txt", folder, threads=1, **options)
    hybridq.step2(folder, threads=1)
    found = hybridq.step3(folder, threads=1, seconds=0)
    return {name: (folder / name).read_bytes() for name in FILES} | {"report": found.to_json()["layers"]}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("repair", ["none", "better", "auto"])
def test_all_steps_give_the_same(tmp_path: Path, beside: bool, repair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "m", beside=beside)
    plain = flow(path, "plain", weights_repair=repair)
    monkeypatch.setattr(outside, "LARGE", 4096)
    monkeypatch.setattr(outside, "LEAST", 1024)
    assert any_outside(read_model(path).graph)
    assert flow(path, "apart", weights_repair=repair) == plain


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("opset", [9, 13, 17, 21])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_the_canonical_model_computes_the_same(tmp_path: Path, opset: int, kind: type) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(mlp(opset, kind), path)
    scratch = Scratch()
    found = canonicalize(read_model(path), scratch=scratch)
    assert any_outside(found.graph)
    x = {"x": np.random.default_rng(5).normal(size=(1, WIDTH)).astype(kind)}
    one, other = (runtime.run(runtime.session(m, threads=1), x)[0] for m in (path, found))
    np.testing.assert_allclose(one, other, rtol=2e-3 if kind is np.float16 else 1e-5, atol=1e-3)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("beside", [False, True])
def test_weights_are_those_that_onnx_reads(tmp_path: Path, beside: bool) -> None:
    path = written(tmp_path, beside=beside)
    whole, apart = onnx.load(path), load(path)
    assert any_outside(apart.graph)
    assert apart.ByteSize() < whole.ByteSize() / 10
    for a, b in zip(whole.graph.initializer, apart.graph.initializer, strict=True):
        assert (a.name, a.data_type, list(a.dims)) == (b.name, b.data_type, list(b.dims))
        np.testing.assert_array_equal(numpy_helper.to_array(a), values_of(b), strict=True)
    assert whole.graph.node == apart.graph.node


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("share", np.linspace(0.02, 0.999, 15))
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path, beside=False)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError):
        read_model(path)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize(
    ("location", "offset", "length"),
    [
        ("../secret", 0, None),
        ("/etc/hostname", 0, None),
        ("link", 0, None),
        ("w.bin", -8, None),
        ("w.bin", 1 << 40, None),
        ("w.bin", 0, 1 << 40),
        ("w.bin", 0, 12),
        ("sub", 0, None),
    ],
)
def test_weights_that_lie_elsewhere_are_refused(tmp_path: Path, location: str, offset: int, length: int | None) -> None:
    (tmp_path / "secret").write_bytes(bytes(1 << 20))
    path = written(tmp_path / "m", beside=True)
    (path.parent / "link").symlink_to(tmp_path / "secret")
    (path.parent / "sub").mkdir()
    proto = onnx.load(path, load_external_data=False)
    first = next(t for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    given = {"location": location, "offset": offset, "length": WIDTH * WIDTH * 4 if length is None else length}
    del first.external_data[:]
    for key, value in given.items():
        first.external_data.add(key=key, value=str(value))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError):
        canonicalize(read_model(path), str(path))


@pytest.mark.usefixtures("small_is_large")
def test_a_folder_that_was_written_anew_leaves_what_was_read_whole(tmp_path: Path) -> None:
    path = written(tmp_path, beside=True)
    hybridq.step1(path, tmp_path / "list.txt", tmp_path / "o", threads=1)
    state = hybridq.storage.state.read_state(tmp_path / "o")
    before = {name: np.array(values) for name, values in state.weights.items()}
    (tmp_path / "o" / "other").write_bytes(bytes((tmp_path / "o" / "weights.data").stat().st_size))
    (tmp_path / "o" / "other").replace(tmp_path / "o" / "weights.data")
    for name, values in before.items():
        np.testing.assert_array_equal(state.weights[name], values)
    assert not any_outside(hybridq.storage.state.assemble(state.model.proto, state.weights).graph)


class TestTwoFiles:
    """A hybrid model whose weights lie beside it: written, sealed and checked together."""

    @pytest.fixture
    def built(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_is_large: None) -> Path:
        monkeypatch.setattr(onnx_file, "EXTERNAL", 4096)
        path = written(tmp_path, beside=True)
        hybridq.step1(path, tmp_path / "list.txt", tmp_path / "o", threads=1)
        hybridq.step2(tmp_path / "o", threads=1)
        return tmp_path / "o"

    def test_all_that_read_it_know_both(self, built: Path) -> None:
        data = built / "hybrid.onnx.data"
        assert data.stat().st_size > 4096
        assert json.loads((built / "build.json").read_text())["files"].keys() >= {"hybrid.onnx", "hybrid.onnx.data"}
        hybridq.check(built)
        found = hybridq.step3(built, threads=1, seconds=0)
        sizes = found.report.sizes
        assert sizes.hybrid_bytes == data.stat().st_size + (built / "hybrid.onnx").stat().st_size
        assert all(x.entire is not None for x in found.report.layers)
        hybridq.step4(built, "json", built.parent / "out.json")
        hybridq.bundle(built, built.parent / "out.zip")
        assert not hybridq.upgrade(built).changed

    @pytest.mark.parametrize("harm", ["bit", "short", "gone"])
    def test_damage_to_the_second_is_told(self, built: Path, harm: str) -> None:
        data = built / "hybrid.onnx.data"
        held = bytearray(data.read_bytes())
        held[100] ^= 1
        data.unlink() if harm == "gone" else data.write_bytes(held if harm == "bit" else held[:-1])
        for command in (hybridq.check, hybridq.step3):
            with pytest.raises(StorageError, match=r"hybrid.onnx.data"):
                command(built)

    def test_a_smaller_model_takes_the_second_away(self, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(onnx_file, "EXTERNAL", 1 << 30)
        hybridq.step2(built, threads=1)
        assert not (built / "hybrid.onnx.data").exists()
        hybridq.check(built)


def test_biases_are_corrected_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, beside=False)
    plain = flow(path, "plain", weights_repair="bias")
    monkeypatch.setattr(bias_correction, "MEMORY", 1)
    assert flow(path, "portions", weights_repair="bias") == plain


def test_what_is_too_large_to_repair_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, beside=False)
    left_out = (
        (weight_repair, "EQUALIZED", "channels were not equalized"),
        (measure, "BIG", "repairing them was left out"),
    )
    for home, name, words in left_out:
        monkeypatch.setattr(home, name, 1)
        found = hybridq.step1(path, tmp_path / "list.txt", tmp_path / name, threads=1)
        assert any(words in line for line in found.remarks)
