"""Laws of the damage figures, over Hypothesis' arrays, and the cases that a division would get wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers_metrics import largest_error, measure, sliced, worst_slice
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hybridq.quant.metrics import CenteredDamage, Damage, Parts, SliceDamage, cut_axes, sqnr_db

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
FLOATS = st.floats(-1e6, 1e6, width=32).map(lambda v: 0.0 if abs(v) < 1e-6 else v)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    shape = draw(SHAPES)
    return draw(hnp.arrays(np.float32, shape, elements=FLOATS)), draw(hnp.arrays(np.float32, shape, elements=FLOATS))


def test_sqnr_is_the_formula() -> None:
    a, b = np.array([3.0, 4.0], np.float32), np.array([3.0, 3.5], np.float32)
    assert sqnr_db(a, b) == pytest.approx(10 * math.log10(25 / 0.25))
    assert measure(a, b).mse == 0.125
    assert measure(a, b).euclidean == 0.5
    assert largest_error(a, b) == (0.5, (1,))
    assert measure(a, b).cosine == pytest.approx(23 / (5 * math.sqrt(9 + 12.25)))


@settings(deadline=None)
@given(pairs())
def test_an_array_is_identical_to_itself(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
    a, _ = pair
    damage = measure(a, a)
    assert damage.identical
    assert (damage.sqnr_db, damage.cosine, damage.mse, damage.normalized_euclidean) == (math.inf, 1.0, 0.0, 0.0)
    assert worst_slice(a, a).sqnr_db == math.inf


@settings(deadline=None)
@given(pairs(), st.integers(-8, 8))
def test_scaling_both_by_a_power_of_two_changes_no_ratio(
    pair: tuple[NDArray[Any], NDArray[Any]], exponent: int
) -> None:
    a, b = (x.astype(np.float64) for x in pair)
    one, other = measure(a, b), measure(np.ldexp(a, exponent), np.ldexp(b, exponent))
    assert one.sqnr_db == pytest.approx(other.sqnr_db)
    assert one.cosine == pytest.approx(other.cosine)
    assert one.largest.at == other.largest.at


@settings(deadline=None)
@given(pairs())
def test_the_worst_slice_is_never_better_than_the_whole(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
    a, b = pair
    assert worst_slice(a, b).sqnr_db <= sqnr_db(a, b) + 1e-6


@settings(deadline=None)
@given(pairs())
def test_the_largest_error_is_where_it_says(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
    a, b = (x.astype(np.float64) for x in pair)
    found = largest_error(*pair)
    assert found.error == np.abs(a - b).max() == abs(a[found.at] - b[found.at])


@settings(deadline=None)
@given(st.lists(pairs(), min_size=2, max_size=5), st.data())
def test_merged_halves_equal_the_whole(samples: list[tuple[NDArray[Any], NDArray[Any]]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(samples)))
    whole, left, right = (_accumulate(s) for s in (samples, samples[:cut], samples[cut:]))
    left[0].merge(right[0])
    left[1].merge(right[1])
    assert left[0].largest == whole[0].largest
    for name in ("samples", "count", "sqnr_db", "cosine", "mse", "euclidean", "normalized_euclidean", "identical"):
        assert getattr(left[0], name) == pytest.approx(getattr(whole[0], name)), name
    if len({a.shape for a, _ in samples}) == 1:
        assert [s.sqnr_db for s in left[1].slices()] == pytest.approx([s.sqnr_db for s in whole[1].slices()])


def _accumulate(samples: list[tuple[NDArray[Any], NDArray[Any]]]) -> tuple[Damage, SliceDamage]:
    damage, cut = Damage(), SliceDamage()
    for a, b in samples:
        damage.add(a, b)
        cut.add(a, b)
    return damage, cut


@pytest.mark.parametrize(
    ("reference", "x", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.0], (math.inf, 1.0)),
        ([0.0, 0.0], [0.0, 1.0], (-math.inf, 0.0)),
        ([0.0, 1.0], [0.0, 0.0], (0.0, 0.0)),
        ([], [], (math.inf, 1.0)),
        ([math.nan, 1.0], [math.nan, 1.0], (math.inf, 1.0)),
        ([math.inf, 1.0], [math.inf, 0.9], (20.0, 1.0)),
        ([1.0, 1.0], [math.nan, 1.0], (-math.inf, 0.0)),
        ([math.inf, 1.0], [-math.inf, 1.0], (-math.inf, 0.0)),
    ],
)
def test_edges(reference: list[float], x: list[float], expected: tuple[float, float]) -> None:
    a, b = np.array(reference, np.float32), np.array(x, np.float32)
    assert sqnr_db(a, b) == pytest.approx(expected[0], abs=1e-5)
    assert measure(a, b).cosine == pytest.approx(expected[1])


def test_nan_on_one_side_is_counted_and_is_the_largest_error() -> None:
    found = measure(np.ones((2, 3)), np.array([[1, 1, 1], [1, np.nan, 1]]))
    assert found.nonfinite == 1
    assert found.largest == (math.inf, (0, 1, 1))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int64, np.float16])
def test_integers_and_bools_are_numbers(dtype: type) -> None:
    a, b = np.array([1, 0, 1], dtype), np.array([1, 1, 1], dtype)
    assert largest_error(a, b) == (1.0, (1,))
    assert sqnr_db(a, b) == pytest.approx(10 * math.log10(2))


def test_scores_lost_beside_large_boxes_are_found() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 640, (1, 100, 4)), rng.uniform(0, 1, (1, 100, 2))
    a = np.concatenate([boxes, scores], 2)
    b = np.concatenate([boxes, np.full_like(scores, scores.mean())], 2)
    assert sqnr_db(a, b) > 50
    worst = worst_slice(a, b)
    assert (worst.axis, worst.start in (4, 5), worst.sqnr_db) == (2, True, pytest.approx(0.0, abs=0.2))
    parts = sliced(a, b, Parts(2, (4, 2))).slices()[:2]
    assert [(p.start, p.stop, p.sqnr_db) for p in parts] == [(0, 4, math.inf), (4, 6, pytest.approx(0.0))]


def test_a_slice_is_weighed_by_its_variance_not_its_power() -> None:
    rng = np.random.default_rng(1)
    a = np.stack([rng.normal(0, 1, 500), rng.normal(100, 1, 500)])[None]
    found = sliced(a, a + 0.1 * rng.choice([-1.0, 1.0], a.shape)).slices()
    assert [s.sqnr_db for s in found] == pytest.approx(10 * np.log10(a[0].var(axis=1) / 0.01))


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1))
def test_what_does_not_vary_has_no_share_in_the_worst_slice(constant: float, noise: float) -> None:
    varying = np.linspace(-100, 100, 8)
    a = np.stack([varying, np.full(8, constant)])[None].astype(np.float32)
    b = a + np.array([[[1.0], [noise]]], np.float32)
    found = worst_slice(a, b)
    assert found.sqnr_db <= sqnr_db(a, b) + 1e-9
    assert [s.varies for s in sliced(a, b).slices()[:2]] == [True, False]
    assert (found.axis, found.start) in ((1, 0), (-1, 0))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 84, 8400), (1,)),
        ((1, 25200, 85), (2,)),
        ((1, 255, 20, 20), (1,)),
        ((1, 20, 20, 255), (1, 3)),
        ((1, 3, 20, 20, 85), (1, 4)),
        ((1, 1, 480, 480), ()),
        ((1, 1000), ()),
        ((1, 1000, 1, 1), ()),
        ((1, 6), (1,)),
        ((1, 1600, 1), ()),
        ((7,), ()),
        ((), ()),
        ((0, 6), (1,)),
    ],
)
def test_which_axes_are_cut(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    assert cut_axes(shape) == axes


def test_outputs_of_another_size_are_counted_not_compared() -> None:
    damage = Damage()
    damage.add(np.ones(3), np.ones(3))
    damage.add(np.ones(3), np.ones(4))
    assert (damage.samples, damage.mismatched, damage.count) == (2, 1, 3)
    assert (damage.sqnr_db, damage.cosine, damage.identical) == (-math.inf, 0.0, False)
    with pytest.raises(ValueError, match="shapes"):
        sqnr_db(np.ones(3), np.ones(4))


def test_an_axis_of_changing_size_is_left_uncut() -> None:
    damage = SliceDamage(Parts(1, (9, 9)))
    damage.add(np.ones((1, 3, 4)), np.zeros((1, 3, 4)))
    damage.add(np.ones((1, 5, 4)), np.zeros((1, 5, 4)))
    assert damage.slices() == []
    assert damage.worst() == (-1, 0, 1, 0.0, True, 32.0)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (6, 5), elements=FLOATS), hnp.arrays(np.float32, (6, 5), elements=FLOATS))
def test_the_centered_sqnr_is_the_variance_weighted_coefficient_of_determination(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> None:
    damage = CenteredDamage()
    for one, other in zip(a, b, strict=True):
        damage.add(one, other)
    x, y = a.astype(np.float64), b.astype(np.float64)
    total, residual = np.square(x - x.mean(0)).sum(), np.square(x - y).sum()
    if total <= 1e-9 * np.square(x).sum() * (1 + 1e-9):
        assert damage.sqnr_db is None or total > 0
    else:
        expected = -10 * math.log10(residual / total) if residual else math.inf
        assert damage.sqnr_db == pytest.approx(expected, abs=1e-6)


@given(hnp.arrays(np.float32, (6, 5), elements=st.floats(-8, 8, width=16)), st.sampled_from([0.0, 16.0, 256.0, 1024.0]))
def test_what_all_samples_have_in_common_changes_no_centered_sqnr(values: NDArray[np.float32], constant: float) -> None:
    shared, plain = CenteredDamage(), CenteredDamage()
    noisy = values + np.float32(0.125) * np.sign(values)
    for one, other in zip(values, noisy, strict=True):
        plain.add(one, other)
        shared.add(one + np.float32(constant), other + np.float32(constant))
    if plain.sqnr_db is not None and shared.sqnr_db is not None and math.isfinite(plain.sqnr_db):
        assert shared.sqnr_db == pytest.approx(plain.sqnr_db, abs=0.01)


def test_a_mean_face_hides_its_error_from_the_whole_output_only() -> None:
    rng = np.random.default_rng(0)
    face = rng.uniform(0, 112, 196).astype(np.float32)
    whole, centered = Damage(), CenteredDamage()
    for _ in range(20):
        landmarks = face + rng.normal(0, 5, 196).astype(np.float32)
        found = landmarks + rng.normal(0, 0.5, 196).astype(np.float32)
        whole.add(landmarks, found)
        centered.add(landmarks, found)
    assert whole.sqnr_db > 40
    assert centered.sqnr_db == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize(
    "pairs_of_shapes", [[(3, 3)], [(3, 3), (4, 4)], [(3, 3), (3, 2)]], ids=["one sample", "another size", "mismatched"]
)
def test_without_two_samples_of_one_shape_nothing_is_centered(pairs_of_shapes: list[tuple[int, int]]) -> None:
    damage = CenteredDamage()
    for i, (one, other) in enumerate(pairs_of_shapes):
        damage.add(np.full(one, float(i)), np.zeros(other))
    assert damage.sqnr_db is None


def test_a_nan_on_one_side_is_infinite_noise_centered_too() -> None:
    damage = CenteredDamage()
    damage.add(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    damage.add(np.array([2.0, 4.0]), np.array([2.0, 4.0]))
    assert damage.sqnr_db == -math.inf
