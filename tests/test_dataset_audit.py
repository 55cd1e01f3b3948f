"""The audit measures what entered, warns where it looks wrong, and is silent where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from hybridq.dataset import Audit, InputSpec, Preprocessing, audit_dataset, open_dataset
from hybridq.errors import DatasetError

SHAPE = (1, 3, 8, 8)
IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
RNG = np.random.default_rng(0)


def audit(values: list[Any], *, shape: Any = SHAPE, dtype: str = "float32", **options: Any) -> Audit:
    return audit_dataset(open_dataset(values, (InputSpec("x", shape, dtype),), Preprocessing.of(**options)))


def codes(found: Audit) -> dict[str, str]:
    return {problem.code: problem.severity for problem in found.problems}


def pixels(count: int = 20) -> list[NDArray[Any]]:
    return [RNG.integers(0, 256, SHAPE).astype(np.float32) for _ in range(count)]


def pictures(folder: Path, count: int = 20) -> Path:
    for n in range(count):
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{n:02}.png")
    return folder


def test_good_data_is_left_in_peace() -> None:
    assert codes(audit(pixels(), **IMAGENET)) == {}
    assert codes(audit(pixels(), mean=[103.94, 116.78, 123.68])) == {}, "Caffe's way: a mean and no std"
    assert codes(audit([x / 255 for x in pixels()])) == {}
    assert codes(audit([x / 255 for x in pixels()], mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])) == {}


@given(st.lists(hnp.arrays(np.float32, SHAPE, elements=st.floats(-1e3, 1e3, width=32)), min_size=1, max_size=4))
def test_rows_are_numpys_figures(values: list[NDArray[Any]]) -> None:
    whole = np.concatenate(values).astype(np.float64)
    for row in audit(values).rows:
        channel = whole[:, row.channel]
        assert (row.min, row.max) == (channel.min(), channel.max())
        assert row.mean == pytest.approx(channel.mean(), rel=1e-4, abs=1e-2)


def test_rows_by_layout() -> None:
    nhwc = audit([np.arange(12).reshape(1, 2, 2, 3)], shape=(1, 2, 2, 3)).rows
    assert [(r.channel, r.min, r.max, r.mean) for r in nhwc] == [(0, 0, 9, 4.5), (1, 1, 10, 5.5), (2, 2, 11, 6.5)]
    assert [r.channel for r in audit([np.zeros((1, 64))], shape=(1, 64)).rows] == [None]
    assert [(r.min, r.mean) for r in audit([7, 9], shape=(), dtype="int64").rows] == [(7, 8)]


def test_infinities_are_told_once_and_left_out() -> None:
    mask = np.float32([[0, -np.inf, 1, 0]])
    found = audit([mask, mask, np.zeros((1, 4), np.float32)], shape=(1, 4))
    found.check()
    (said,) = [p for p in found.problems if p.code == "infinite"]
    assert said.severity == "warning"
    assert "1 Inf for input 'x' (and 1 more)" in said.message
    assert [(r.min, r.max) for r in found.rows] == [(0.0, 0.0), (0.0, 0.0), (0.0, 1.0), (0.0, 0.0)]


def test_nan_and_inf_are_errors_with_the_files_name(tmp_path: Path) -> None:
    bad = np.ones(SHAPE)
    bad[0, 0, 0, :2] = np.nan
    bad[0, 1, 0, 0] = -np.inf
    np.save(tmp_path / "good.npy", pixels(1)[0])
    np.save(tmp_path / "bad.npy", bad)
    listing = tmp_path / "d.txt"
    listing.write_text("good.npy\nbad.npy\n")
    found = audit_dataset(open_dataset(listing, (InputSpec("x", SHAPE, "float32"),)))
    with pytest.raises(DatasetError, match=r"d\.txt:2: 'bad\.npy' holds 2 NaN and 1 Inf for input 'x'"):
        found.check()
    assert found.problems[0].severity == "error"
    assert all(np.isfinite([r.min, r.max, r.mean]).all() for r in found.rows)


def test_images_without_mean_and_std_get_a_note(tmp_path: Path) -> None:
    dataset = open_dataset(pictures(tmp_path), (InputSpec("x", SHAPE, "float32"),))
    assert codes(audit_dataset(dataset)) == {"unscaled": "note"}


def test_mean_and_std_meant_for_zero_to_one(tmp_path: Path) -> None:
    prep = Preprocessing.of([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    found = audit_dataset(open_dataset(pictures(tmp_path), (InputSpec("x", SHAPE, "float32"),), prep))
    assert codes(found) == {"far-outside": "warning"}
    problem = found.problems[0]
    assert ".png' enters" in problem.message
    assert "(and 19 more)" in problem.message
    assert "--mean 123.675,116.28,103.53 --std 58.395,57.12,57.375" in problem.hint


def test_values_normalized_twice() -> None:
    once = [(x - 120) / 58 for x in pixels()]
    assert codes(audit(once, **IMAGENET)) == {"twice": "warning"}
    assert codes(audit(once, mean=0.45, std=0.22)) == {"twice": "warning"}
    scaled = audit([x / 255 for x in pixels()], std=255)
    assert "0..1 already" in scaled.problems[0].message


def test_one_file_of_another_scale() -> None:
    assert codes(audit([x / 255 for x in pixels(20)] + pixels(1))) == {"odd-one-out": "warning"}
    found = audit(pixels(20) + [x / 255 for x in pixels(1)])
    assert "sample 21" in found.problems[0].message


def test_constant_samples_and_channels() -> None:
    found = audit([*pixels(), np.full(SHAPE, 50.0)])
    assert codes(found) == {"constant": "warning"}
    assert "sample 21" in found.problems[0].message
    flat = pixels()
    for x in flat:
        x[:, 1] = 0
    assert codes(audit(flat)) == {"constant-channel": "warning"}


def test_a_constant_state_is_only_noted() -> None:
    inputs = (InputSpec("x", (1, 4), "float32"), InputSpec("h", (2, 1, 3), "float32"), InputSpec("sr", (), "int64"))
    feeds = [{"x": RNG.normal(size=4), "h": np.zeros((2, 1, 3)), "sr": 16000} for _ in range(20)]
    assert codes(audit_dataset(open_dataset(feeds, inputs))) == {"constant": "note"}


@given(st.integers(1, 30), st.integers(0, 5))
def test_repeated_and_few_samples(count: int, repeats: int) -> None:
    values = [np.array([[n, n + 0.5]]) for n in range(count)]
    found = audit(values + values[:repeats], shape=(1, 2))
    repeated = min(repeats, count)
    assert found.distinct == count
    assert ("repeated" in codes(found)) == (repeated > 0)
    assert ("few-samples" in codes(found)) == (count < 20)


def test_one_changed_element_is_no_repetition() -> None:
    big = RNG.normal(size=(1, 100_000)).astype(np.float32)
    other = big.copy()
    other[0, 77_777] += 1
    assert audit([big, other], shape=(1, 100_000)).distinct == 2
    assert audit([big, big.copy()], shape=(1, 100_000)).distinct == 1


def test_the_audit_sees_single_samples_of_a_batch() -> None:
    dataset = open_dataset(pixels(5), (InputSpec("x", ("N", 3, 8, 8), "float32"),))
    watched = Audit.of(dataset)
    assert sum(batch.count for batch in dataset.batches(2, watched.add)) == watched.samples == 5


def test_only_the_first_samples() -> None:
    dataset = open_dataset(pixels(5), (InputSpec("x", SHAPE, "float32"),))
    assert audit_dataset(dataset, 3).samples == 3
