"""Models written tensor by tensor are the models that onnx writes whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hybridq.graph import onnx_file, runtime, wire
from hybridq.graph.onnx_file import LazyTensor, OnnxFile

DTYPES = ["float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool", "float64"]


def lazy(name: str, values: np.ndarray[Any, Any]) -> LazyTensor:
    return LazyTensor(name, values.dtype, values.shape, lambda: values)


def file_of(tensors: list[LazyTensor]) -> OnnxFile:
    """A model that gives its tensors as outputs."""
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}/out"], name=f"id/{t.name}") for t in tensors]
    kinds = {t.name: helper.np_dtype_to_tensor_dtype(t.dtype) for t in tensors}
    graph = helper.make_graph(
        nodes, "g", [], [helper.make_tensor_value_info(f"{t.name}/out", kinds[t.name], t.shape) for t in tensors]
    )
    return OnnxFile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tensors)


@st.composite
def models(draw: st.DrawFn) -> OnnxFile:
    found = []
    for i in range(draw(st.integers(0, 5))):
        shape = draw(st.lists(st.integers(0, 40), max_size=3))
        seed = np.random.default_rng(draw(st.integers(0, 99)))
        found.append(lazy(f"t{i}", (seed.normal(size=shape) * 9).astype(draw(st.sampled_from(DTYPES)))))
    return file_of(found)


@settings(max_examples=60, deadline=None)
@given(models())
def test_inline(tmp_path_factory: pytest.TempPathFactory, model: OnnxFile) -> None:
    path = tmp_path_factory.mktemp("inline") / "m.onnx"
    assert model.write(path) == [path]
    assert onnx.load(path) == model.assemble()
    assert model.weight_bytes == sum(numpy_helper.to_array(t).nbytes for t in onnx.load(path).graph.initializer)
    model.write(path.with_name("again.onnx"))
    assert path.read_bytes() == path.with_name("again.onnx").read_bytes()


@settings(max_examples=30, deadline=None)
@given(models())
def test_external(tmp_path_factory: pytest.TempPathFactory, model: OnnxFile) -> None:
    folder = tmp_path_factory.mktemp("external")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "EXTERNAL", -1)
        written = model.write(folder / "m.onnx")
    assert [p.name for p in written] == ["m.onnx", "m.onnx.data"]
    loaded = onnx.load(folder / "m.onnx")
    for before, after in zip(model.assemble().graph.initializer, loaded.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after), strict=True)
    bare = onnx.load(folder / "m.onnx", load_external_data=False)
    for tensor in bare.graph.initializer:
        outside = tensor.data_location == TensorProto.EXTERNAL
        assert outside == (
            tensor.ByteSize() < 200 and next(t for t in model.tensors if t.name == tensor.name).nbytes > 1024
        )
        for pair in tensor.external_data:
            assert pair.key != "offset" or int(pair.value) % onnx_file.PAGE == 0


def test_onnx_runtime_reads_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(3000, dtype=np.float32).reshape(3, 1000)
    model = file_of([lazy("big", values), lazy("small", values[:, 0].copy())])
    for limit in (onnx_file.EXTERNAL, 0):
        monkeypatch.setattr(onnx_file, "EXTERNAL", limit)
        path = model.write(tmp_path / f"{limit}.onnx")[0]
        onnx.checker.check_model(str(path), full_check=True)
        big, small = runtime.run(runtime.session(path, threads=1), {})
        np.testing.assert_array_equal(big, values)
        np.testing.assert_array_equal(small, values[:, 0])


def test_values_are_made_one_at_a_time(tmp_path: Path) -> None:
    """Each tensor is asked for once, after the one before was written."""
    log: list[str] = []

    def make(name: str) -> np.ndarray[Any, Any]:
        log.append(name)
        return np.zeros(2000, np.float32)

    tensors = [LazyTensor(n, np.dtype(np.float32), (2000,), lambda n=n: make(n)) for n in "abc"]  # type: ignore[misc]
    file_of(tensors).write(tmp_path / "m.onnx", written=lambda: log.append("written"))
    assert log == ["a", "written", "b", "written", "c", "written"]


def test_big_endian_and_strided_values() -> None:
    values = np.arange(12, dtype=">i4").reshape(3, 4).T
    tensor = LazyTensor("t", np.dtype(np.int32), (4, 3), lambda: values)
    assert tensor.values().tobytes() == np.ascontiguousarray(values).astype("<i4").tobytes()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**40])
def test_varint(value: int) -> None:
    data = wire.varint(value)
    assert sum((b & 0x7F) << (7 * i) for i, b in enumerate(data)) == value
    assert [b >> 7 for b in data] == [1] * (len(data) - 1) + [0]
