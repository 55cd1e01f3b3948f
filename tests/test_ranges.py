"""Laws of the range algorithms, worked figures, and a brute-force check of the error they minimize."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers_statistics import of_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hybridq.calibration.ranges import ALGORITHMS, OWN_OPTION, RangeOptions, choose
from hybridq.calibration.ranges.moments import moments_of, squared_error
from hybridq.calibration.statistics import TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import Range, qparams_of_ranges
from hybridq.quant.weight_ranges import weight_qparams

FORMS = [(precision, scheme) for precision in (Precision.UINT8, Precision.INT8, Precision.INT16) for scheme in Scheme]
UINT8 = (Precision.UINT8, Scheme.ASYMMETRIC)


def random(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def stats_of(values: np.ndarray, parts: int = 4) -> TensorStatistics:
    return of_samples(np.array_split(values.astype(np.float32), parts))


def long_tail(count: int = 40000) -> np.ndarray:
    values = random().normal(size=count)
    values[:4] = (60.0, -41.0, 50.0, 45.0)
    return values


def error(values: np.ndarray, r: Range, precision: Precision, scheme: Scheme) -> float:
    quantized = fake_quantize(values.astype(np.float32), qparams_of_ranges(r.min, r.max, precision, scheme))
    return float(np.mean((quantized.astype(np.float64) - values) ** 2))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(ALGORITHMS)),
    st.sampled_from(FORMS),
    st.lists(
        hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
        min_size=1,
        max_size=4,
    ),
)
def test_a_range_holds_zero_and_nothing_that_was_not_seen(
    algorithm: str, form: tuple[Precision, Scheme], samples: list[np.ndarray]
) -> None:
    stats = of_samples(samples)
    found = choose(algorithm, stats, *form)
    full = choose("normal", stats, *form)
    assert full.min <= found.min <= 0.0 <= found.max <= full.max
    assert not form[1].is_symmetric or found.min == -found.max
    qparams_of_ranges(found.min, found.max, *form)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_side_that_is_next_to_nothing_beside_the_other_stays_within_what_was_seen(algorithm: str) -> None:
    found = choose(algorithm, of_samples([np.array([-1.5845633e29, 1.7592188e13], np.float32)]), *FORMS[0])
    assert found.max <= np.float32(1.7592188e13)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-30, 1e30])
def test_odd_scales(algorithm: str, form: tuple[Precision, Scheme], scale: float) -> None:
    values = np.float32(random().normal(size=300) * scale)
    for sample in (values, np.abs(values), -np.abs(values)):
        found = choose(algorithm, of_samples([sample]), *form)
        qparams_of_ranges(found.min, found.max, *form)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(FORMS),
    st.integers(0, 2**32 - 1),
    st.floats(0.05, 4.0),
    st.sampled_from(["normal", "laplace", "relu"]),
)
def test_the_estimated_error_is_the_quantizers(
    form: tuple[Precision, Scheme], seed: int, share: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.laplace(size=20000) if kind == "laplace" else rng.normal(size=20000)
    values = np.maximum(values, 0) if kind == "relu" else values
    stats = stats_of(values)
    r = Range(min(stats.min, 0.0) * share, stats.max * share)
    found = squared_error(moments_of(stats), np.array(r.min), np.array(r.max), *form)
    one_bin = (max(-stats.min, stats.max) / 128) ** 2 / len(values)  # what is known of a single element
    assert float(found) == pytest.approx(error(values, r, *form), rel=0.15, abs=2 * one_bin)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_mmse_finds_the_best_of_a_brute_force_search(form: tuple[Precision, Scheme]) -> None:
    values = long_tail()
    stats = stats_of(values)
    found = error(values, choose("mmse", stats, *form), *form)
    shares = np.exp2(-np.arange(0, 6, 0.5))
    best = min(error(values, Range(stats.min * a, stats.max * b), *form) for a in shares for b in shares)
    assert found <= best * 1.05


@pytest.mark.parametrize("algorithm", ["kl_divergence", "percentile"])
@pytest.mark.parametrize("scheme", list(Scheme))
def test_long_tails_are_clipped(algorithm: str, scheme: Scheme) -> None:
    found = choose(algorithm, stats_of(long_tail()), Precision.INT8, scheme, RangeOptions(percentile=99.97))
    assert found.max < 30.0


@pytest.mark.parametrize(("kind", "optimum"), [("laplace", 9.90), ("normal", 3.92)])
def test_mmse_finds_the_optimum_of_aciq(kind: str, optimum: float) -> None:
    rng = np.random.default_rng(3)
    values = rng.laplace(size=2_000_000) if kind == "laplace" else rng.normal(size=2_000_000)
    found = choose("mmse", stats_of(values), Precision.INT8, Scheme.SYMMETRIC)
    assert found.max == pytest.approx(optimum, rel=0.06)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_auto_clips_less_than_mmse(scheme: Scheme) -> None:
    stats = stats_of(np.random.default_rng(3).laplace(size=200_000))
    mmse, auto = (choose(a, stats, Precision.INT8, scheme) for a in ("mmse", "auto"))
    assert mmse.max <= auto.max <= max(stats.max, -stats.min)


@pytest.mark.parametrize("tail", [2.0, 3.0, 4.0])
def test_kl_divergence_differs_from_normal_where_tails_are_long(tail: float) -> None:
    stats = stats_of(random().standard_t(tail, size=50000))
    found = choose("kl_divergence", stats, *UINT8)
    assert found.max < 0.9 * stats.max
    assert found.min > 0.9 * stats.min


def test_kl_divergence_follows_tails_of_any_length() -> None:
    values = random().normal(size=50000)
    values[0] = 5000.0
    assert choose("kl_divergence", stats_of(values), *UINT8).max < 50.0


def test_kl_divergence_keeps_what_is_evenly_spread() -> None:
    stats = stats_of(random().uniform(-1, 3, size=50000))
    found = choose("kl_divergence", stats, *UINT8)
    assert (found.min, found.max) == pytest.approx((-1, 3), abs=0.1)


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
def test_percentile_holds_what_it_says(percent: float) -> None:
    values = random().normal(size=100000)
    found = choose("percentile", stats_of(values), *UINT8, RangeOptions(percentile=percent))
    held = ((values >= found.min) & (values <= found.max)).mean() * 100
    assert held == pytest.approx(percent, abs=0.05)


def test_percentile_100_is_normal() -> None:
    stats = stats_of(random().normal(size=1000))
    assert choose("percentile", stats, *UINT8, RangeOptions(percentile=100.0)) == choose("normal", stats, *UINT8)


@pytest.mark.parametrize(("option", "other"), [("percentile", 90.0), ("momentum", 0.5)])
def test_an_option_is_of_the_algorithms_that_the_table_says(option: str, other: float) -> None:
    stats = stats_of(long_tail(4000) * np.linspace(0.5, 2.0, 4000))
    told = {
        n: [f(stats, Precision.UINT8, Scheme.ASYMMETRIC, o) for o in (RangeOptions(), RangeOptions(**{option: other}))]
        for n, f in ALGORITHMS.items()
        if n != "trimmed"
    }
    assert {n for n, (usual, changed) in told.items() if usual != changed} == {
        n for n, o in OWN_OPTION.items() if o == option
    }


def test_moving_average_is_the_mean_of_few_samples() -> None:
    stats = of_samples([np.float32([-1, 1]), np.float32([-3, 2]), np.float32([-2, 6])])
    assert choose("moving_average", stats, *UINT8) == Range(-2.0, 3.0)


def test_moving_average_follows_the_order() -> None:
    samples = [np.float32([0, v]) for v in np.linspace(1, 2, 500)]
    forward = of_samples(samples)
    backward = of_samples(samples[::-1])
    up, down = (choose("moving_average", s, *UINT8, RangeOptions(momentum=0.1)).max for s in (forward, backward))
    assert up > 1.95
    assert down < 1.05


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 0.0, (0.0, 0.01)),
        (0.001, 0.002, (0.0, 0.01)),
        (-0.002, -0.001, (-0.002, 0.008)),
        (-5.0, -1.0, (-5.0, 0.0)),
        (2.0, 7.0, (0.0, 7.0)),
    ],
)
def test_minimum_range_of_snpe(low: float, high: float, expected: tuple[float, float]) -> None:
    stats = of_samples([np.float32([low, high])])
    found = choose("normal", stats, *UINT8, RangeOptions(minimum_range=0.01))
    assert (found.min, found.max) == pytest.approx(expected, abs=1e-9)


def test_snpe_moves_a_range_to_an_exact_zero() -> None:
    moved = qparams_of_ranges(-5.1, 5.1, *UINT8).range
    assert (moved.min, moved.max) == pytest.approx((-5.12, 5.08))
    moved = qparams_of_ranges(-1.8, 0.5, *UINT8)
    assert float(moved.scale) == pytest.approx(0.00901961)
    assert int(moved.zero_point) == 200
    assert (moved.range.min, moved.range.max) == pytest.approx((-1.80392, 0.49608), abs=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"percentile": 40.0}, {"percentile": 101.0}, {"momentum": 0.0}, {"minimum_range": -1.0}], ids=str
)
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not"):
        RangeOptions(**wrong)


@pytest.mark.parametrize("algorithm", ["percentile", "kl_divergence", "mmse", "auto"])
def test_a_missing_histogram_is_named(algorithm: str) -> None:
    bare = of_samples([np.float32([0, 1])], histogram=False)
    with pytest.raises(ValueError, match="needs a histogram"):
        choose(algorithm, bare, *UINT8)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_auto_errs_no_more_than_the_widest_range(form: tuple[Precision, Scheme]) -> None:
    values = long_tail()
    stats = stats_of(values)
    assert error(values, choose("auto", stats, *form), *form) <= 1.05 * error(
        values, choose("normal", stats, *form), *form
    )


def test_a_search_takes_milliseconds() -> None:
    stats = stats_of(long_tail())
    started = time.perf_counter()
    for algorithm in ("mmse", "kl_divergence", "percentile"):
        choose(algorithm, stats, *UINT8)
    assert time.perf_counter() - started < 0.2


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.floats(-1e6, 1e6, width=32)
    ),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(FORMS),
)
def test_weights_mmse_never_errs_more_than_normal(
    w: np.ndarray, axis: int | None, form: tuple[Precision, Scheme]
) -> None:
    normal, mmse = (weight_qparams(w, axis, *form, algorithm=a) for a in ("normal", "mmse"))
    assert normal.axis == mmse.axis == axis
    assert mmse.scale.shape == (() if axis is None else (w.shape[axis],))

    def err(p: object) -> np.ndarray:
        squares = (fake_quantize(w, p).astype(np.float64) - w) ** 2  # type: ignore[arg-type]
        return squares.sum() if axis is None else squares.sum(axis=tuple(i for i in range(w.ndim) if i != axis))

    assert (err(mmse) <= err(normal) * (1 + 1e-3) + 1e-12).all()


def test_weights_dead_channels_are_safe() -> None:
    w = random().normal(size=(4, 8)).astype(np.float32)
    w[1], w[2] = 0.0, 1e-42
    for algorithm in ("normal", "mmse"):
        p = weight_qparams(w, 0, Precision.INT8, Scheme.SYMMETRIC, algorithm)
        assert p.scale[1] == p.scale[2] == 1.0


def test_weights_mmse_clips_an_outlier() -> None:
    w = random().normal(size=(2, 4000)).astype(np.float32)
    w[0, 0] = 12.0
    normal, mmse = (weight_qparams(w, 0, Precision.INT8, Scheme.SYMMETRIC, a) for a in ("normal", "mmse"))
    assert mmse.scale[0] < normal.scale[0]


def test_weights_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        weight_qparams(np.float32([[1.0, np.nan]]), 0, Precision.INT8, Scheme.SYMMETRIC)


def test_worked_figure_rknn_weight() -> None:
    p = weight_qparams(np.float32([-0.23170342, 0.19608229]), None, *UINT8)
    assert float(p.scale) == pytest.approx(0.00167759, abs=1e-8)
    assert int(p.zero_point) == 138
