"""Metrics by name: each against a figure worked out by hand, and bound to float's outputs where it is used."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_cli import Run
from hypothesis import given
from hypothesis import strategies as st

import hybridq
from hybridq.compare import load_metric
from hybridq.compare.metric import bound, metric_digest, metric_name
from hybridq.compare.named import NAMED
from hybridq.compare.named.boxes import DECODERS, found_boxes
from hybridq.compare.named.ctc import distance, read
from hybridq.errors import HybridqError


def _rows(*values: Any, dtype: Any = np.float32) -> list[dict[str, Any]]:
    return [{"out": np.array(value, dtype)} for value in values]


def _score(spec: str, reference: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> float:
    return bound(load_metric(spec), reference)(outputs)


SCORES = _rows([[0.1, 0.9], [0.8, 0.2]], [[0.3, 0.7], [0.6, 0.4]])
OTHERS = _rows([[0.2, 0.8], [0.4, 0.6]], [[0.3, 0.7], [0.6, 0.4]])  # one of four rows decides otherwise


def test_agreement() -> None:
    assert _score("agreement", SCORES, OTHERS) == 0.75
    masks = np.zeros((1, 2, 2, 2), np.float32)
    masks[0, 1, 0, 0] = 1
    assert _score("agreement", [{"m": masks}], [{"m": np.zeros_like(masks)}]) == 0.75


def test_equal() -> None:
    assert _score("equal", SCORES, OTHERS) == 4 / 8
    assert _score("equal", _rows([1, 2, 3], dtype=np.int64), _rows([1, 2, 4], dtype=np.int64)) == 2 / 3


def test_psnr() -> None:
    given, other = _rows([0.0, 10.0], [5.0, 5.0]), _rows([1.0, 9.0], [5.0, 5.0])
    assert _score("psnr", given, other) == pytest.approx((10 * math.log10(100 / 1) + 100) / 2)


def test_iou() -> None:
    given, other = _rows([[0.9, 0.8, 0.1, 0.2]]), _rows([[0.9, 0.2, 0.7, 0.2]])
    assert _score("iou", given, other) == pytest.approx(1 / 3)  # one of three pixels that either marks
    classes = _rows([0, 0, 1, 1], dtype=np.int64), _rows([0, 1, 1, 1], dtype=np.int64)
    assert _score("iou", *classes) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert _score("iou", _rows([[-3.0, 3.0]]), _rows([[-1.0, 1.0]])) == 1.0
    assert _score("iou", _rows([[0.0, 0.1]]), _rows([[0.0, 0.2]])) == 1.0  # both find nothing


def test_top1(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("1\n0\n1\n1\n")
    metric = load_metric(f"top1:{labels}")
    assert metric(SCORES) == 0.75
    assert metric(OTHERS) == 0.5
    before = metric_digest(metric)
    labels.write_text("1\n0\n1\n0\n")
    assert metric_digest(load_metric(f"top1:{labels}")) != before
    with pytest.raises(HybridqError, match="4 labels for 2 rows"):
        metric(SCORES[:1])


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"boxes", "ctc", "top1"}))
def test_the_float_model_scores_best_against_itself(name: str) -> None:
    metric = bound(load_metric(name), SCORES)
    assert metric(SCORES) == (100.0 if name == "psnr" else 1.0)
    assert metric(OTHERS) < metric(SCORES)
    assert metric_name(metric) == name


def test_every_metric_has_its_definition_in_the_docs() -> None:
    page = (Path(hybridq.__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name in NAMED:
        assert f"## {name}\n" in page


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("agreemnt", "Choose agreement"),
        ("top1", "needs labels"),
        ("top1:absent.txt", "absent.txt"),
        ("psnr:x", "takes nothing after its name"),
        ("boxes", "no layout of boxes"),
        ("boxes:yolov9", "boxes:yolov8"),
        ("boxes:ssd:absent.txt", "absent.txt"),
        ("ctc", "needs the characters"),
        ("ctc:absent.txt", "absent.txt"),
    ],
)
def test_a_wrong_name_is_refused_with_a_remedy(spec: str, says: str) -> None:
    with pytest.raises(HybridqError) as caught:
        load_metric(spec)
    assert says in str(caught.value)


def test_a_label_that_is_no_number_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("1\ncat\n")
    with pytest.raises(HybridqError, match=r"labels\.txt:2: 'cat' is no class number"):
        load_metric(f"top1:{tmp_path / 'labels.txt'}")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("metric", ["agreement", "psnr"])
def test_step3_takes_them(run: Run, metric: str) -> None:
    found = run("step3", "build", "--threads", 1, "--metric", metric, "--json").json["metric"]
    assert found["name"] == metric
    assert found["float_value"] == (100.0 if metric == "psnr" else 1.0)
    assert found["hybrid_value"] <= found["float_value"]


@pytest.mark.usefixtures("folder")
def test_a_search_holds_their_budget(run: Run) -> None:
    words = ("--metric", "psnr", "--max-drop", "1000", "--threads", 1)
    done = run("auto", "small.onnx", "--dataset", "dataset.txt", "-o", "new", "--std", "255", *words)
    assert done.code == 0
    found = hybridq.step3("new", metric="psnr", threads=1, seconds=0).report.metric
    assert found is not None
    assert found.float_value == 100.0


# -- boxes ---------------------------------------------------------------------------------------------------------

BOXES = np.array([[10, 10, 30, 30], [50, 50, 90, 90], [12, 10, 30, 30]], float)  # the third is the first again
SCORED = np.array([[0.9, 0.0], [0.0, 0.8], [0.5, 0.0]])


def _boxes(layout: str, corners: Any = BOXES, scores: Any = SCORED) -> dict[str, Any]:
    """A sample's outputs in a layout."""
    corners, scores = np.asarray(corners, np.float32), np.asarray(scores, np.float32)
    centred = np.column_stack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
    if layout == "yolov8":
        return {"out": np.column_stack([centred, scores]).T[None]}
    if layout == "yolov5":
        return {"out": np.column_stack([centred, np.full(len(centred), 0.5), 2 * scores])[None]}
    background = 1 - scores.sum(1, keepdims=True)
    return {"scores": np.column_stack([background, scores])[None], "boxes": corners[None]}


@pytest.mark.parametrize("layout", list(DECODERS))
def test_boxes_are_decoded_suppressed_and_matched(layout: str) -> None:
    rows = found_boxes(DECODERS[layout], _boxes(layout))
    np.testing.assert_allclose(rows[:, :4], BOXES[:2], atol=1e-5)
    np.testing.assert_allclose(rows[:, 4:], [[0.9, 0], [0.8, 1]], atol=1e-6)
    same, moved = _boxes(layout), _boxes(layout, BOXES + np.array([[0], [30], [0]]))  # the second box is elsewhere
    assert _score(f"boxes:{layout}", [same], [same]) == 1.0
    assert _score(f"boxes:{layout}", [same], [moved]) == 2 * 1 / (2 + 2)
    assert _score(f"boxes:{layout}", [same], [_boxes(layout, BOXES, SCORED[:, ::-1])]) == 0.0  # other classes
    faint = _boxes(layout, BOXES, SCORED * 0.2)
    assert _score(f"boxes:{layout}", [same], [faint]) == 0.0
    assert _score(f"boxes:{layout}", [faint], [faint]) == 1.0  # nothing found, nothing missed


def test_mean_average_precision_against_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("0 10 10 30 30 1 50 50 90 90\n0 10 10 30 30\n")
    metric = load_metric(f"boxes:ssd:{labels}")
    hit, empty = _boxes("ssd"), _boxes("ssd", BOXES, SCORED * 0)
    assert metric([hit, hit]) == pytest.approx(1.0)
    assert metric([hit, empty]) == pytest.approx((0.5 + 1.0) / 2)  # class 0: one of two found; class 1: its only one
    ahead = _boxes("ssd", [[200, 200, 220, 220], *BOXES[:1]], [[0.95, 0], [0.9, 0]])  # a wrong one with a better score
    assert metric([ahead, empty]) == pytest.approx((0.5 * 0.5 + 0.0) / 2)
    with pytest.raises(HybridqError, match="2 lines of labels for 1 samples"):
        metric([hit])
    labels.write_text("0 10 10 30\n")
    with pytest.raises(HybridqError, match="not five numbers a box"):
        load_metric(f"boxes:ssd:{labels}")


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
@pytest.mark.parametrize("layout", ["yolov5", "yolov8"])
def test_a_model_cut_before_its_last_concat_scores_as_it_did(layout: str, order: slice) -> None:
    whole = _boxes(layout)["out"]
    axis = {"yolov5": 2, "yolov8": 1}[layout]
    parts = np.split(whole, [4], axis=axis)[order]
    cut = {f"part{i}": part for i, part in enumerate(parts)}
    found = [found_boxes(DECODERS[layout], one) for one in ({"out": whole}, cut)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("layout", "other"), [("yolov5", "yolov8"), ("yolov8", "yolov5")])
def test_the_other_layout_is_named_where_the_axes_are_the_other_way_round(layout: str, other: str) -> None:
    """A detector of pixels by its scores, and one of shares of the picture by its shape."""
    scores = np.tile(SCORED, (30, 1))
    for unit in (1.0, 1 / 90):
        outputs = _boxes(other, np.tile(BOXES, (30, 1)) * unit, scores)
        with pytest.raises(HybridqError) as caught:
            _score(f"boxes:{layout}", [outputs], [outputs])
        assert f"boxes:{other}" in caught.value.problems[0].hint
    few = _boxes(other, BOXES, SCORED)
    with pytest.raises(HybridqError):
        _score(f"boxes:{layout}", [few], [few])


def test_outputs_of_another_layout_are_told() -> None:
    with pytest.raises(HybridqError, match="no output has this layout"):
        _score("boxes:yolov8", SCORES, SCORES)


# -- text ----------------------------------------------------------------------------------------------------------


def _text(classes: list[int], count: int = 4) -> dict[str, Any]:
    return {"text": np.eye(count, dtype=np.float32)[classes][None]}


def test_text_is_read_and_compared(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("a\nb\nc\n")
    spec = f"ctc:{keys}"
    assert read(_text([1, 1, 0, 1, 2, 2])["text"], "abc") == ["aab"]
    assert read(_text([1, 4, 2], 5)["text"], "abc") == ["a b"]
    assert read(_text([1, 0, 2])["text"].transpose(1, 0, 2), "abc") == ["ab"]
    one = _text([1, 0, 2, 3])
    assert _score(spec, [one], [one]) == 1.0
    assert _score(spec, [one], [_text([1, 0, 3, 3])]) == pytest.approx(2 / 3)  # "ac" for "abc"
    assert _score(spec, [one], [_text([0, 0, 0, 0])]) == 0.0
    with pytest.raises(HybridqError, match="3 characters for an output"):
        _score(spec, [_text([1], 9)], [_text([1], 9)])
    keys.write_text("\n")
    with pytest.raises(HybridqError, match="holds no character"):
        load_metric(spec)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits_are_a_distance(a: str, b: str, c: str) -> None:
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b))
