"""Pictures where the model leaves height and width open: a size asked for, the first picture's, or each its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_cli import Run
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from hybridq.dataset import InputSpec, Preprocessing, open_dataset
from hybridq.dataset.preprocessing import size_of
from hybridq.errors import OptionError

OPEN = InputSpec("x", (1, 3, "h", "w"), "float32")
SIZES = [(16, 20), (17, 21), (18, 22)]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for i, (height, width) in enumerate(SIZES):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png\n" for i in range(len(SIZES))))
    return tmp_path / "list.txt"


def shapes(pictures: Path, preprocessing: Preprocessing, spec: InputSpec = OPEN) -> list[tuple[int, ...]]:
    return [sample.feed["x"].shape for sample in open_dataset(pictures, [spec], preprocessing)]


def test_each_keeps_its_own(pictures: Path) -> None:
    assert shapes(pictures, Preprocessing()) == [(1, 3, *size) for size in SIZES]


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
def test_the_size_that_is_asked_for(pictures: Path, resize: str) -> None:
    assert shapes(pictures, Preprocessing.of(resize=resize, size="12x14")) == [(1, 3, 12, 14)] * 3


@pytest.mark.parametrize("resize", ["letterbox", "crop"])
def test_a_way_to_resize_takes_the_first_pictures_and_says_so(pictures: Path, resize: str) -> None:
    found = open_dataset(pictures, [OPEN], Preprocessing.of(resize=resize))
    assert [s.feed["x"].shape for s in found] == [(1, 3, 16, 20)] * 3
    assert found.preprocessing.size == (16, 20)
    (note,) = found.notes
    assert note.severity == "note"
    assert "16x20" in note.hint
    assert "--size" in note.hint


def test_what_the_model_says_counts(pictures: Path) -> None:
    """A free width alone: the height is the model's."""
    spec = InputSpec("x", (1, 3, 8, "w"), "float32")
    assert shapes(pictures, Preprocessing.of(size="12x14"), spec) == [(1, 3, 8, 14)] * 3
    fixed = InputSpec("x", (1, 3, 8, 8), "float32")
    assert shapes(pictures, Preprocessing.of(resize="letterbox"), fixed) == [(1, 3, 8, 8)] * 3
    assert not open_dataset(pictures, [fixed], Preprocessing.of(resize="letterbox")).notes


@pytest.mark.parametrize("given", ["480x640", "480X640", [480, 640], (480, 640), "480 640"])
def test_forms_of_a_size(given: object) -> None:
    assert size_of(given, "size") == (480, 640)


@pytest.mark.parametrize("given", ["480", 480, [480], " 480 "])
def test_one_number_is_a_square(given: object) -> None:
    assert size_of(given, "size") == (480, 480)


@pytest.mark.parametrize("given", ["", "0x640", "axb", "480x640x3", 0, 1.5j, "-1x4"])
def test_no_size(given: object) -> None:
    with pytest.raises(OptionError, match="size"):
        size_of(given, "size")


def test_a_sample_that_the_model_does_not_take_is_named(pictures: Path, run: Run) -> None:
    """Width 21 halved and doubled is 22: the Concat does not fit, in our words."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Resize", ["a", "", "scales"], ["u"], mode="nearest"),
        helper.make_node("Concat", ["u", "x"], ["y"], axis=1),
    ]
    tensors = {"w": np.ones((4, 3, 3, 3), np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, "h", "w"]), ("y", None))]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in tensors.items()]
    )
    path = pictures.parent / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    words = ("step1", path, "--dataset", pictures, "-o", pictures.parent / "b", "--threads", "1")
    done = run(*words)
    assert done.code == 1
    assert f"{pictures}:2: the model does not take 1.png ('x' [1, 3, 17, 21])" in done.err
    assert "--size" in done.err
    assert run(*words, "--size", "16x16").code == 0
