"""Laws of the statistics: exact, mergeable in any order, of fixed size."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_statistics import of_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hybridq.calibration.statistics import BINS, OCTAVES, SIDE, Histogram, TensorStatistics, codes_of, pool

FINITE = st.floats(-(2.0**127), 2.0**127, width=32)
SAMPLE = hnp.arrays(np.float32, st.integers(1, 40), elements=FINITE)
SAMPLES = st.lists(SAMPLE, min_size=1, max_size=8)


def merged(samples: list[np.ndarray], order: list[int]) -> TensorStatistics:
    parts = [of_samples([samples[i]], i) for i in order]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    return whole


@given(SAMPLES, st.randoms(use_true_random=False))
def test_shards_in_any_order_equal_the_whole(samples: list[np.ndarray], random: object) -> None:
    order = list(range(len(samples)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert merged(samples, order).same_as(of_samples(samples))


@given(SAMPLES, SAMPLES, SAMPLES)
def test_merge_is_associative(a: list[np.ndarray], b: list[np.ndarray], c: list[np.ndarray]) -> None:
    x, y = of_samples(a), of_samples(b, len(a))
    z = of_samples(c, len(a) + len(b))
    assert x.merge(y).merge(z).same_as(x.merge(y.merge(z)))


@given(SAMPLES)
def test_min_max_and_count_are_exact(samples: list[np.ndarray]) -> None:
    stats = of_samples(samples)
    whole = np.concatenate(samples)
    assert (stats.min, stats.max, stats.count) == (whole.min(), whole.max(), whole.size)


@given(SAMPLE)
def test_every_value_lies_in_its_bin(values: np.ndarray) -> None:
    histogram = Histogram.of_codes(codes_of(values))
    edges = histogram.edges
    assert edges.shape == (BINS + 1,)
    assert (np.diff(edges) >= 0).all()
    for bin_ in np.flatnonzero(histogram.counts):
        held = ((values >= edges[bin_]) & (values <= edges[bin_ + 1])).sum()
        assert held >= histogram.counts[bin_]


@given(SAMPLE)
def test_zero_holds_only_what_16_bits_call_zero(values: np.ndarray) -> None:
    edges = Histogram.of_codes(codes_of(values)).edges
    assert edges[SIDE + 1] <= np.abs(values).max() * 2.0 ** (1 - OCTAVES)


@settings(max_examples=20)
@given(st.integers(-100, 100), st.integers(0, 40))
def test_octaves_leave_at_the_bottom(first: int, more: int) -> None:
    small, large = np.float32([2.0**first] * 3), np.float32([2.0 ** min(first + more, 127)])
    both = of_samples([small, large]).histogram
    assert both is not None
    assert both.counts[SIDE] == (3 if more >= OCTAVES else 0)
    assert both.count == 4


@pytest.mark.parametrize("values", [[0.0, 0.0], [-0.0], [1e-42, -3e-45], [3.4e38, -3.4e38], [-5.0, -1.0]], ids=str)
def test_odd_values(values: list[float]) -> None:
    stats = of_samples([np.float32(values)])
    assert stats.count == len(values)
    assert (stats.min, stats.max) == (np.float32(min(values)), np.float32(max(values)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -np.nan])
def test_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="infinite or not a number"):
        Histogram.of_codes(codes_of(np.float32([1.0, bad])))
    with pytest.raises(ValueError, match="infinite or not a number"):
        TensorStatistics(np.array([0]), np.float32([[0.0, bad]]))


def test_a_sample_twice_is_refused() -> None:
    one = of_samples([np.float32([1.0])], 3)
    with pytest.raises(ValueError, match="twice"):
        one.merge(one)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        TensorStatistics(np.array([0, 1]), np.float32([[0.0, 1.0]]))


def test_pool_takes_the_union_of_each_sample() -> None:
    a = of_samples([np.float32([1, 2]), np.float32([3])])
    b = of_samples([np.float32([-1]), np.float32([5])])
    both = pool([a, b])
    assert both.pairs.tolist() == [[-1, 2], [3, 5]]
    assert both.count == 5


def test_pool_needs_the_same_samples() -> None:
    a, b = (of_samples([np.float32([1])], i) for i in range(2))
    with pytest.raises(ValueError, match="different samples"):
        pool([a, b])


def test_no_samples() -> None:
    nothing = of_samples([])
    assert (nothing.min, nothing.max, nothing.count, nothing.samples) == (0.0, 0.0, 0, 0)
    one = of_samples([np.float32([1])])
    assert nothing.merge(one).same_as(one)


def test_without_histogram() -> None:
    bare = of_samples([np.float32([1, 2])], histogram=False)
    full = of_samples([np.float32([1, 2])])
    assert bare.count == 0
    assert not bare.same_as(full)
    assert bare.merge(of_samples([np.float32([3])], 1)).histogram is None
