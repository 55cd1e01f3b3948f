"""Laws of quantization: integers survive, half a step bounds the error, ONNX's own evaluator agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from hybridq.quant.dtypes import Precision, Scheme, widest
from hybridq.quant.numerics import along, dequantize, fake_quantize, float32_text, quantize
from hybridq.quant.qparams import QParams, Range, fraction_length, qparams_of_ranges, range_params
from hybridq.targets import load

Array = NDArray[Any]
quick = settings(max_examples=60, deadline=None)

INTEGERS = st.sampled_from([Precision.UINT8, Precision.INT8, Precision.INT16])
SCHEMES = st.sampled_from(list(Scheme))
BIG = float(np.float32(1e30))
FLOATS = st.floats(-BIG, BIG, width=32)
MODERATE = st.floats(-1e4, 1e4, width=32)


@st.composite
def qparams(draw: st.DrawFn, bound: float = BIG) -> QParams:
    """Parameters as ranges give them, per tensor."""
    ends = sorted(draw(st.tuples(*[st.floats(-bound, bound, width=32)] * 2)))
    return qparams_of_ranges(ends[0], ends[1], draw(INTEGERS), draw(SCHEMES))


@st.composite
def per_channel(draw: st.DrawFn) -> tuple[Array, QParams]:
    """Values of any rank and parameters along one of their axes."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    values = draw(hnp.arrays(np.float32, shape, elements=MODERATE))
    axis = draw(st.integers(0, len(shape) - 1))
    others = tuple(i for i in range(len(shape)) if i != axis)
    precision, scheme = draw(INTEGERS), draw(SCHEMES)
    return values, qparams_of_ranges(values.min(axis=others), values.max(axis=others), precision, scheme, axis)


class TestQuantize:
    @quick
    @given(qparams())
    def test_every_integer_survives(self, p: QParams) -> None:
        q = np.arange(p.qmin, p.qmax + 1).astype(p.precision.numpy)
        np.testing.assert_array_equal(quantize(dequantize(q, p), p), q)

    @quick
    @given(qparams(1e4), st.lists(st.floats(0, 1), min_size=1, max_size=50))
    def test_half_a_step_bounds_the_error_within_the_range(self, p: QParams, shares: list[float]) -> None:
        reach = p.range
        x = np.float32(reach.min + np.array(shares) * (reach.max - reach.min))
        slack = 1e-6 * max(abs(reach.min), abs(reach.max))
        assert np.abs(fake_quantize(x, p).astype(np.float64) - x).max() <= float(p.scale) / 2 + slack

    @quick
    @given(qparams(), hnp.arrays(np.float32, 20, elements=FLOATS))
    def test_quantizing_twice_is_quantizing_once(self, p: QParams, x: Array) -> None:
        once = fake_quantize(x, p)
        np.testing.assert_array_equal(fake_quantize(once, p), once)

    @quick
    @given(qparams(), hnp.arrays(np.float32, 20, elements=FLOATS))
    def test_order_is_kept(self, p: QParams, x: Array) -> None:
        assert (np.diff(quantize(np.sort(x), p).astype(int)) >= 0).all()

    @quick
    @given(qparams())
    def test_zero_is_exact(self, p: QParams) -> None:
        zero = np.zeros(1, np.float32)
        assert quantize(zero, p)[0] == p.zero_point
        assert fake_quantize(zero, p)[0] == 0.0

    @quick
    @given(qparams(1e4))
    def test_far_values_saturate(self, p: QParams) -> None:
        q = quantize(np.array([-1e9, 1e9], np.float32) * max(1.0, float(p.scale)), p)
        assert q.tolist() == [p.qmin, p.qmax]

    def test_halves_go_to_the_even_neighbour(self) -> None:
        p = QParams(Precision.INT8, Scheme.SYMMETRIC, np.float32(1), np.int32(0))
        assert quantize(np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32), p).tolist() == [-2, 0, 0, 2, 2]

    @quick
    @given(per_channel())
    def test_a_channel_is_a_tensor_of_its_own(self, case: tuple[Array, QParams]) -> None:
        values, p = case
        whole = quantize(values, p)
        assert p.axis is not None
        for i in range(values.shape[p.axis]):
            one = QParams(p.precision, p.scheme, p.scale[i], p.zero_point[i])
            slices = values.take(i, p.axis)
            np.testing.assert_array_equal(whole.take(i, p.axis), quantize(slices, one))
            np.testing.assert_array_equal(dequantize(whole, p).take(i, p.axis), fake_quantize(slices, one))

    def test_scalars_broadcast_as_they_are(self) -> None:
        assert along(np.float32(2), None, 4).shape == ()
        assert along(np.ones(3, np.float32), 1, 4).shape == (1, 3, 1, 1)


def reference(op: str, x: Array, p: QParams) -> Array:
    """ONNX's own evaluator."""
    axis = {} if p.axis is None else {"axis": p.axis}
    kinds = {"x": helper.np_dtype_to_tensor_dtype(x.dtype), "s": TensorProto.FLOAT, "z": p.precision.onnx}
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "s", "z"], ["y"], **axis)],
        "g",
        [helper.make_tensor_value_info(n, t, None) for n, t in kinds.items()],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    found: Array = ReferenceEvaluator(model).run(
        None, {"x": x, "s": p.scale, "z": p.zero_point.astype(p.precision.numpy)}
    )[0]
    return found


class TestAgainstOnnx:
    """``onnx.reference`` is the oracle wherever its int32 step does not overflow."""

    @quick
    @given(per_channel())
    def test_per_channel(self, case: tuple[Array, QParams]) -> None:
        values, p = case
        q = quantize(values, p)
        np.testing.assert_array_equal(q, reference("QuantizeLinear", values, p))
        np.testing.assert_array_equal(dequantize(q, p), reference("DequantizeLinear", q, p))

    @quick
    @given(qparams(1e4), hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=MODERATE))
    def test_per_tensor(self, p: QParams, x: Array) -> None:
        assume(float(np.abs(x).max(initial=0)) / float(p.scale) < 2**30)
        q = quantize(x, p)
        np.testing.assert_array_equal(q, reference("QuantizeLinear", x, p))
        np.testing.assert_array_equal(dequantize(q, p), reference("DequantizeLinear", q, p))


class TestRangeToParameters:
    @quick
    @given(FLOATS, FLOATS, INTEGERS, SCHEMES)
    def test_the_integers_cover_the_range_but_for_half_a_step(
        self, a: float, b: float, precision: Precision, scheme: Scheme
    ) -> None:
        low, high = min(a, b, 0.0), max(a, b, 0.0)
        p = qparams_of_ranges(low, high, precision, scheme)
        slack = float(p.scale) * (0.5 + 1e-5 * (p.qmax - p.qmin))
        assert p.range.min <= low + slack
        assert p.range.max >= high - slack

    @quick
    @given(FLOATS, FLOATS, INTEGERS)
    def test_symmetric_is_centred(self, a: float, b: float, precision: Precision) -> None:
        p = qparams_of_ranges(min(a, b), max(a, b), precision, Scheme.SYMMETRIC)
        assert p.zero_point == (128 if precision is Precision.UINT8 else 0)

    @quick
    @given(FLOATS, FLOATS, INTEGERS)
    def test_dynamic_fixed_point_is_a_power_of_two(self, a: float, b: float, precision: Precision) -> None:
        p = qparams_of_ranges(min(a, b), max(a, b), precision, Scheme.DYNAMIC_FIXED_POINT)
        assert float(p.scale) == 2.0 ** -fraction_length(float(p.scale))
        symmetric = qparams_of_ranges(min(a, b), max(a, b), precision, Scheme.SYMMETRIC)
        assert 1 - 1e-6 <= float(p.scale) / float(symmetric.scale) < 2

    @pytest.mark.parametrize("scheme", list(Scheme))
    @pytest.mark.parametrize("width", [0.0, 1e-45, 1e-38])
    def test_an_empty_range_has_the_scale_one(self, scheme: Scheme, width: float) -> None:
        assert qparams_of_ranges(0.0, width, Precision.UINT8, scheme).scale == 1.0

    @pytest.mark.parametrize("scheme", list(Scheme))
    def test_the_largest_ranges_stay_finite(self, scheme: Scheme) -> None:
        end = 1e38
        p = qparams_of_ranges(-end, end, Precision.INT16, scheme)
        assert np.isfinite(dequantize(np.array([p.qmin + 1, p.qmax], np.int16), p)).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_no_parameters_for_what_is_no_number(self, bad: float) -> None:
        with pytest.raises(ValueError, match="finite"):
            qparams_of_ranges(0.0, bad, Precision.UINT8, Scheme.ASYMMETRIC)

    def test_fraction_length_wants_a_power_of_two(self) -> None:
        assert fraction_length(0.125) == 3
        with pytest.raises(ValueError, match="power of two"):
            fraction_length(0.1)

    def test_sixteen_bits_get_headroom(self) -> None:
        int16 = load("onnxruntime").activation(Precision.INT16)
        exact = range_params(Range(-1, 1), int16, fixed=True)
        assert float(range_params(Range(-1, 1), int16).scale) == pytest.approx(2 * float(exact.scale))
        eight = range_params(Range(-1, 1), load("onnxruntime").activation(Precision.UINT8))
        assert float(eight.scale) == pytest.approx(2 / 255)


class TestWorkedFigures:
    """The figures of the toolchains around, recomputed."""

    def test_rknn_lecture(self) -> None:
        p = qparams_of_ranges(-1, 5, Precision.INT8, Scheme.ASYMMETRIC)
        assert float(p.scale) == pytest.approx(0.0235294, abs=1e-7)
        assert p.zero_point == -86  # 127 - 5 / S = -85.5, half to even
        assert quantize(np.float32([0.2]), p)[0] in (-78, -77)

    def test_snpe(self) -> None:
        p = qparams_of_ranges(-1.8, 0.5, Precision.UINT8, Scheme.ASYMMETRIC)
        assert float(p.scale) == pytest.approx(0.00901961, abs=1e-8)
        assert p.zero_point == 200
        assert (p.range.min, p.range.max) == pytest.approx((-1.80392, 0.49608), abs=1e-5)
        assert quantize(np.float32([-1.8, -1.0, 0, 0.5]), p).tolist() == [0, 89, 200, 255]

    def test_snpe_symmetric_looking_range(self) -> None:
        p = qparams_of_ranges(-5.1, 5.1, Precision.UINT8, Scheme.ASYMMETRIC)
        assert (p.range.min, p.range.max) == pytest.approx((-5.12, 5.08), abs=1e-5)

    @pytest.mark.parametrize(("low", "high", "reach"), [(1.0, 3.0, (0, 3)), (-3.0, -1.0, (-3, 0))])
    def test_snpe_zero_is_always_inside(self, low: float, high: float, reach: tuple[float, float]) -> None:
        p = qparams_of_ranges(low, high, Precision.UINT8, Scheme.ASYMMETRIC)
        assert (p.range.min, p.range.max) == pytest.approx(reach, abs=1e-6)

    @pytest.mark.parametrize(
        ("low", "high", "scale", "zero_point"),
        [
            (-2.10916, 2.60870, 0.0185014, 114),
            (-233.46035767, 75.39134979, 1.21118317, 193),
            (-0.23170342, 0.19608229, 0.00167759, 138),
            (-52.340476989746094, 10.097497940063477, 0.24485479295253754, 214),
        ],
        ids=["AIMET", "RKNN activation", "RKNN weight", "RKNN output"],
    )
    def test_uint8(self, low: float, high: float, scale: float, zero_point: int) -> None:
        p = qparams_of_ranges(low, high, Precision.UINT8, Scheme.ASYMMETRIC)
        assert float(p.scale) == pytest.approx(scale, rel=5e-6)
        assert p.zero_point == zero_point

    def test_rknn_bias(self) -> None:
        assert float(np.float32(0.0343774706) * np.float32(0.0016775910)) == pytest.approx(5.76713e-5, rel=1e-6)

    def test_a_score_beside_boxes(self) -> None:
        coarse = qparams_of_ranges(0, 640, Precision.UINT8, Scheme.ASYMMETRIC)
        assert float(coarse.scale) == pytest.approx(2.51, abs=0.005)
        assert quantize(np.float32([0.98]), coarse)[0] == 0
        fine = qparams_of_ranges(-640, 640, Precision.INT16, Scheme.SYMMETRIC)
        assert 1 / float(fine.scale) == pytest.approx(51, abs=0.5)


class TestText:
    @settings(max_examples=300, deadline=None)
    @given(st.floats(width=32, allow_nan=False, allow_infinity=False))
    def test_the_shortest_decimal_reads_back(self, value: float) -> None:
        text = float32_text(value)
        assert np.float32(float(text)).tobytes() == np.float32(value).tobytes()
        assert "." in text
        assert len(text) <= 17

    @pytest.mark.parametrize(
        ("value", "text"), [(0.1, "0.1"), (255.0, "255.0"), (1e-5, "0.00001"), (1e20, "1.0e+20"), (-0.0, "-0.0")]
    )
    def test_examples(self, value: float, text: str) -> None:
        assert float32_text(value) == text


class TestWidest:
    @given(st.lists(st.sampled_from(list(Precision)), min_size=1))
    def test_none_has_more_bits(self, precisions: list[Precision]) -> None:
        found = widest(precisions)
        assert found in precisions
        assert found.bits == max(p.bits for p in precisions)
        if Precision.FLOAT16 in precisions and Precision.FLOAT32 not in precisions:
            assert found is Precision.FLOAT16
