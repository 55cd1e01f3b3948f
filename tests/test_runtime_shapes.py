"""Models of open axes for runtimes and toolchains that take none: the first sample's shapes, told, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_cli import small_model
from onnx import TensorProto, helper

import hybridq
from hybridq.engines.records import Engine, Loaded, write_float
from hybridq.engines.table import ENGINES
from hybridq.errors import EngineError
from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed, session


class _Twice:
    """Outputs twice as long as they should be."""

    def run(self, _: None, feed: Feed, /) -> Sequence[np.ndarray]:
        return [np.zeros((2 * len(feed["image"]), 4), np.float32)]


def _nothing(view: View, folder: Path, samples: Sequence[Feed]) -> tuple[str, ...]:
    return ()


def _float(view: View, folder: Path, threads: int, feed: Feed) -> Loaded:
    one = session(folder / "float.onnx", threads=threads)
    return Loaded("1", one, one)


def _twice(view: View, folder: Path, threads: int, feed: Feed) -> Loaded:
    return Loaded("1", _Twice(), _Twice())


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A build of a model whose batch, height and width are open; samples of 8x8, then one of 6x8."""
    model = small_model()
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, tmp_path / "open.onnx")
    random = np.random.default_rng(0)
    for number, height in enumerate((8, 8, 6)):
        np.save(tmp_path / f"{number}.npy", random.normal(size=(1, 3, height, 8)).astype(np.float32))
    (tmp_path / "equal.txt").write_text("0.npy\n1.npy\n")
    (tmp_path / "mixed.txt").write_text("0.npy\n2.npy\n")
    hybridq.step1(tmp_path / "open.onnx", tmp_path / "equal.txt", tmp_path / "build", threads=1)
    hybridq.step2(tmp_path / "build", threads=1)
    return tmp_path


def _shapes(path: Path) -> list[list[int]]:
    graph = onnx.load(path).graph
    return [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)]


@pytest.mark.parametrize("format_name", ["rknn2", "litert"])
def test_an_export_for_a_toolchain_of_fixed_shapes_has_the_samples(opened: Path, format_name: str) -> None:
    done = hybridq.step4(opened / "build", format_name)
    assert _shapes(done.path / "model.onnx") == [[1, 3, 8, 8], [1, 4]]
    assert [p.message for p in done.losses if p.code == "shapes"] == [
        "the model's open axes are as long as in the first sample: image 1x3x8x8"
    ]
    onnx.checker.check_model(onnx.load(done.path / "model.onnx"), full_check=True)


def test_a_runtime_of_fixed_shapes_gets_them_and_refuses_others(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[list[int]]] = []

    def make(view: View, folder: Path, samples: Sequence[Feed]) -> tuple[str, ...]:
        made.append(_shapes(write_float(view, folder / "float.onnx", samples[0])))
        return ("said",)

    monkeypatch.setitem(ENGINES, "played", Engine("Played", "", (), make, _float))
    found = hybridq.step3(opened / "build", runtime="played", seconds=0, threads=1).report.runtime
    assert made == [[[1, 3, 8, 8], [1, 4]]]
    assert found is not None
    assert (found.notes, found.float_sqnr_db > 90) == (("said",), True)
    with pytest.raises(EngineError, match="'image' is 1x3x6x8 here; Played runs one shape alone, 1x3x8x8"):
        hybridq.step3(opened / "build", opened / "mixed.txt", runtime="played", seconds=0, threads=1)


def test_outputs_of_another_size_are_no_equality(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "played", Engine("Played", "", (), _nothing, _twice))
    with pytest.raises(EngineError, match="Played gives 'scores' in another size"):
        hybridq.step3(opened / "build", runtime="played", seconds=0, threads=1)
