"""Samples as pictures: restored to what a person saw, outputs drawn on them, the worst samples found."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridq.compare.histograms import HistogramWatch
from hybridq.dataset import Preprocessing, Sample
from hybridq.errors import HybridqError
from hybridq.report.gallery import MEDIAN, POINTS, WORST, Gallery
from hybridq.report.pictures import as_uri, drawer, picture_of

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (16, 20, 3)).astype(np.uint8)


def _opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_what_was_fed_becomes_the_picture_again(order: str, channels_last: bool) -> None:
    given = Preprocessing.of([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], order)
    fed = PIXELS[..., ::-1] if order == "bgr" else PIXELS
    fed = (fed - np.array(given.mean_of("x"))) / np.array(given.std_of("x"))
    fed = (fed if channels_last else fed.transpose(2, 0, 1))[None].astype(np.float32)
    picture = picture_of("x", fed, given, order)
    assert picture is not None
    np.testing.assert_array_equal(np.asarray(picture), PIXELS)


def test_values_that_are_no_pixels_are_stretched_and_what_is_no_picture_is_none() -> None:
    gray = np.linspace(-3, 5, 144, dtype=np.float32).reshape(1, 1, 12, 12)
    picture = picture_of("x", gray, Preprocessing(), "rgb")
    assert picture is not None
    assert (np.asarray(picture).min(), np.asarray(picture).max()) == (0, 255)
    for shape in ((1, 3, 4, 4), (1, 40), (1, 7, 20, 20, 2)):
        assert picture_of("x", np.zeros(shape, np.float32), Preprocessing(), "rgb") is None


CANVAS = Image.new("RGB", (64, 64), "gray")
SSD = {
    "boxes": np.array([[[10, 10, 40, 40]]], np.float32),
    "scores": np.array([[[0.1, 0.9]]], np.float32),
}


def test_boxes_are_drawn_where_they_are() -> None:
    drawn = np.asarray(drawer("boxes:ssd")(CANVAS, SSD)).astype(int)
    gray = np.asarray(CANVAS).astype(int)
    assert (drawn[10, 15:40] != gray[10, 15:40]).any(axis=1).all()  # the upper edge
    assert (drawn[45:, 45:] == gray[45:, 45:]).all()
    unit = {**SSD, "boxes": SSD["boxes"] / 64}  # shares of the picture
    np.testing.assert_array_equal(np.asarray(drawer("boxes")(CANVAS, unit)), drawn)


def test_masks_and_classes_are_drawn() -> None:
    mask = np.zeros((1, 1, 8, 8), np.float32)
    mask[..., :4] = 1
    drawn = np.asarray(drawer("mask")(CANVAS, {"m": mask})).astype(int)
    assert abs(drawn[:, :30] - drawn[:, 34:]).min(axis=(0, 1)).max() > 20
    told = np.asarray(drawer("classes")(CANVAS, {"c": np.array([[0.1, 0.7, 0.2]])}))
    assert (told != np.asarray(CANVAS)).any()


def test_a_function_of_the_users_draws(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def dot(picture, outputs):\n    picture.putpixel((1, 2), tuple(outputs['c']))\n\n"
        "def bad(picture, outputs):\n    return outputs['absent']\n"
    )
    before = CANVAS.copy()
    drawn = drawer(f"{tmp_path / 'own.py'}:dot")(CANVAS, {"c": np.array([9, 8, 7])})
    assert drawn.getpixel((1, 2)) == (9, 8, 7)
    assert CANVAS.tobytes() == before.tobytes()  # the next one gets a clean picture
    with pytest.raises(HybridqError, match="bad failed: KeyError"):
        drawer(f"{tmp_path / 'own.py'}:bad")(CANVAS, {})


@pytest.mark.parametrize(
    ("spec", "outputs", "says"),
    [
        ("circles", {}, "no way to draw"),
        ("boxes:yolo99", {}, "no way to draw"),
        ("absent.py:draw", {}, "absent.py"),
        ("boxes", {"o": np.zeros((1, 3))}, "no boxes are known"),
        ("mask", {"o": np.zeros((1, 3))}, "is no mask"),
    ],
)
def test_what_cannot_be_drawn_says_so(spec: str, outputs: dict[str, Any], says: str) -> None:
    with pytest.raises(HybridqError, match=says):
        drawer(spec)(CANVAS, outputs)


def test_the_worst_and_the_middle_samples_are_shown() -> None:
    gallery = Gallery(Preprocessing(), drawer("classes"))
    noise = [10.0**-k for k in RNG.permutation(14)]
    feed = {"x": PIXELS.transpose(2, 0, 1)[None].astype(np.float32)}
    for given, size in zip(gallery.feeds(Sample(f"s{i}", i + 1, feed) for i in range(14)), noise, strict=True):
        out = RNG.normal(size=(1, 500)).astype(np.float32)
        gallery.add(given, {"out": out}, {"out": out + np.float32(size)})
    shots = gallery.shots()
    order = sorted(range(14), key=lambda i: gallery.sqnr[i])
    assert [s.number for s in shots[:WORST]] == order[:WORST]
    assert len(shots) == WORST + MEDIAN
    assert {s.number for s in shots[WORST:]} <= set(order[WORST : WORST + MEDIAN + 2])
    first = shots[0]
    assert first.name == f"s{first.number}"
    assert _opened(first.picture).size == (20, 16)
    assert len(first.drawn) == 2
    assert len(first.outputs[0].float_values) == POINTS
    assert gallery.sqnr[order[0]] == first.outputs[0].sqnr_db


def test_a_sample_is_judged_by_its_worst_slice() -> None:
    gallery = Gallery()
    feeds = [Sample(f"s{i}", i + 1, {"x": np.zeros((1, 3), np.float32)}) for i in range(8)]
    for i, feed in enumerate(gallery.feeds(feeds)):
        boxes, scores = RNG.normal(size=(1, 4, 50)) * 300, RNG.random((1, 1, 50))
        wrong = scores + (0.4 if i == 5 else 0.0)  # nothing beside the boxes' energy
        moved = boxes + RNG.normal(size=boxes.shape) * (10.0 if i == 2 else 1.0)
        a, b = (np.concatenate(pair, axis=1).astype(np.float32) for pair in ((boxes, scores), (moved, wrong)))
        gallery.add(feed, {"o": a}, {"o": b})
    assert gallery.sqnr.index(min(gallery.sqnr)) == 2
    worst = gallery.worst()
    assert [s.number for s in gallery.shots()[:2]] == [5, 2]
    scores_of = worst[5].slice
    assert scores_of is not None
    assert (scores_of.axis, scores_of.start) == (1, 4)
    assert gallery.shots()[0].worst_sqnr_db == worst[5].sqnr_db < 0


def test_a_signal_becomes_a_curve_that_keeps_its_peaks() -> None:
    gallery = Gallery()
    wave = np.zeros((1, 16000), np.float32)
    wave[0, 777] = 5.0
    list(gallery.feeds([Sample("s", 1, {"x": wave})]))
    gallery.add({"x": wave}, {"o": wave}, {"o": wave})
    (shot,) = gallery.shots()
    assert max(shot.wave) == 5.0
    assert len(shot.wave) == POINTS
    assert shot.picture == ""


def test_a_picture_is_no_larger_than_asked() -> None:
    assert max(_opened(as_uri(Image.new("RGB", (900, 300)), 144)).size) == 144


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 3e38, -3e38])
def test_numbers_that_are_none_or_enormous_stop_nothing(odd: float) -> None:
    values = np.linspace(-1, 1, 400, dtype=np.float32).reshape(1, 1, 20, 20)
    values[0, 0, :3, 7] = odd
    gallery = Gallery(draw=drawer("classes"))
    list(gallery.feeds([Sample("s", 1, {"x": values})]))
    gallery.add({"x": values}, {"o": values}, {"o": values})
    assert len(gallery.shots()) == 1
    watch = HistogramWatch(["t"], {"t": (-1.0, 1.0)})
    watch.add(0, values)
    found = watch.of(0)
    assert found is not None
    assert sum(found.counts) == int(np.isfinite(values).sum())


def test_nothing_fed_is_no_picture() -> None:
    assert picture_of("x", np.zeros((0, 3, 16, 16), np.float32), Preprocessing(), "rgb") is None


def test_no_slice_is_told_of_a_sample_whose_outputs_are_not_cut() -> None:
    gallery = Gallery()
    list(gallery.feeds([Sample("s", 1, {"x": np.zeros((1, 3), np.float32)})]))
    row = RNG.normal(size=(1, 196)).astype(np.float32)
    gallery.add({"x": row}, {"o": row}, {"o": row + np.float32(0.5)})
    assert gallery.shots()[0].worst_output == ""
