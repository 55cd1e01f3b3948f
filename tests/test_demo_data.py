"""The bundled demo: its files are what they claim, its score obeys the laws of a score."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hybridq import demo
from hybridq.demo import data
from hybridq.demo.score import iou

RNG = np.random.default_rng(0)


def as_output(truth: demo.Truth, score: float = 0.9) -> dict[str, np.ndarray]:
    """A network's output that shows exactly these digits."""
    rows = np.zeros((1, 4 + demo.CLASSES, max(1, len(truth))), np.float32)
    for i, (x1, y1, x2, y2, label) in enumerate(truth):
        rows[0, :4, i] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        rows[0, 4 + int(label), i] = score
    return {data.OUTPUT: rows}


def perfect() -> list[dict[str, np.ndarray]]:
    return [as_output(truth) for _, truth in demo.evaluation()]


MODELS = {"small": (demo.model_path(), 600_000), "plain": (demo.plain_path(), 2_000_000)}


@pytest.mark.parametrize("name", MODELS)
def test_model_is_valid_small_and_fits_the_pictures(name):
    path, most = MODELS[name]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert path.stat().st_size < most
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert tuple(session.get_inputs()[0].shape) == demo.SHAPE
    assert session.get_inputs()[0].name == data.INPUT
    assert [o.name for o in session.get_outputs()] == [data.OUTPUT]


@pytest.mark.parametrize("name", MODELS)
def test_float_model_is_good_on_held_out_pictures(name):
    session = ort.InferenceSession(MODELS[name][0], providers=["CPUExecutionProvider"])
    outputs = [{data.OUTPUT: session.run(None, feed)[0]} for feed, _ in demo.evaluation()]
    result = demo.score(outputs, outputs)
    assert result["ap50"] > 0.85
    assert result["f1"] > 0.8
    assert result["f1_vs_float"] == 1.0


@pytest.mark.parametrize(("pairs", "count"), [(demo.calibration, 64), (demo.evaluation, 160)])
def test_truth_lies_in_the_picture(pairs, count):
    assert len(pairs()) == count
    for feed, truth in pairs():
        assert feed[data.INPUT].shape == demo.SHAPE
        assert feed[data.INPUT].dtype == np.float32
        assert ((truth[:, :4] >= 0) & (truth[:, :4] <= demo.SHAPE[-1])).all()
        assert (truth[:, 2:4] > truth[:, :2]).all()
        assert np.isin(truth[:, 4], range(demo.CLASSES)).all()


def test_calibration_and_evaluation_share_no_picture():
    seen = {feed[data.INPUT].tobytes() for feed, _ in demo.calibration()}
    assert not seen & {feed[data.INPUT].tobytes() for feed, _ in demo.evaluation()}


def test_dataset_files_say_the_same_as_the_arrays(tmp_path: Path):
    for path, pairs in zip(demo.write_dataset(tmp_path), (demo.calibration(), demo.evaluation()), strict=True):
        lines = path.read_text().splitlines()
        assert len(lines) == len(pairs)
        for line, (feed, _) in zip(lines, pairs, strict=True):
            image = Image.open(path.parent / line)
            assert image.mode == "L"
            np.testing.assert_array_equal(
                ((np.asarray(image, np.float32) - np.float32(demo.MEAN)) / np.float32(demo.STD)).reshape(demo.SHAPE),
                feed[data.INPUT],
            )


def test_writing_twice_gives_the_same_bytes(tmp_path: Path):
    def contents(folder: Path) -> dict[str, bytes]:
        demo.write_dataset(folder)
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_truth_itself_scores_one():
    result = demo.score(perfect(), perfect())
    assert result == pytest.approx({"ap50": 1.0, "f1": 1.0, "f1_vs_float": 1.0})


def test_an_empty_answer_scores_nothing():
    blank = [{data.OUTPUT: np.zeros((1, 4 + demo.CLASSES, 400), np.float32)}] * 160
    assert demo.score(blank, perfect()) == {"ap50": 0.0, "f1": 0.0, "f1_vs_float": 0.0}


@settings(deadline=None)
@given(st.integers(0, 160))
def test_f1_counts_what_was_found(answered: int):
    truths = data.truths("evaluation")
    found = [np.column_stack([t, np.ones(len(t), np.float32)]) for t in truths]
    found = [boxes if i < answered else boxes[:0] for i, boxes in enumerate(found)]
    hits, total = sum(map(len, truths[:answered])), sum(map(len, truths))
    assert demo.f1(found, truths) == pytest.approx(2 * hits / (hits + total))


@given(st.floats(0.06, 1.0), st.floats(0.06, 1.0))
def test_overlapping_boxes_of_one_class_leave_the_better(first: float, second: float):
    box = np.array([[10, 10, 50, 60, 3]], np.float32)
    shifted = box + np.array([1, 1, 1, 1, 0], np.float32)
    pair = np.concatenate([as_output(box, first)[data.OUTPUT], as_output(shifted, second)[data.OUTPUT]], axis=2)
    kept = demo.detections({data.OUTPUT: pair})
    assert kept.shape == (1, 6)
    assert kept[0, 5] == np.float32(max(first, second))


@given(st.lists(st.tuples(*[st.floats(0, 200, width=32)] * 2, *[st.floats(1, 50, width=32)] * 2), min_size=1))
def test_iou_is_a_symmetric_share_and_one_with_itself(boxes):
    a = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.float32)
    overlaps = iou(a, a)
    np.testing.assert_allclose(overlaps, overlaps.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(overlaps), 1, atol=1e-5)
    assert (overlaps >= 0).all()
    assert (overlaps <= 1 + 1e-5).all()


def test_order_of_cells_does_not_matter():
    shuffled = [{data.OUTPUT: RNG.permutation(o[data.OUTPUT], axis=2)} for o in perfect()]
    assert demo.score(shuffled)["f1"] == pytest.approx(1.0)


def test_metric_works_as_a_file_on_its_own():
    spec = importlib.util.spec_from_file_location("anything", Path(data.__file__).with_name("score.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.metric(perfect()) == pytest.approx(1.0)
    assert module.metric([as_output(truth) for _, truth in demo.calibration()]) == pytest.approx(1.0)


def test_a_strange_number_of_outputs_is_refused():
    with pytest.raises(ValueError, match="3 outputs; the demo's sets have 160 and 64 pictures"):
        demo.metric(perfect()[:3])
