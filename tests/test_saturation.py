"""Processors without VNNI: what hybridq does there changes no number, and nothing is left that fails there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from helpers_graphs import built, case_of, given, normal
from onnx import ModelProto, TensorProto
from random_graphs import run

from hybridq.graph import runtime
from hybridq.graph.saturation import EXACT, IN_THE_WAY, apart, saturates

SHARED = given(
    [("Conv", "x w", "a"), ("Relu", "a", "r"), ("Conv", "r w", "m"), ("Conv", "m v", "y")],
    {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1)},
    ["y"],
)


def readers(model: ModelProto) -> list[int]:
    """How often each int8 tensor is read, the real values of weights for each of their readers."""
    held = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT8}
    uses = Counter(name for n in model.graph.node for name in n.input)
    weights = [n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in held]
    return [uses[name] for name in [*held, *weights]]


def test_weights_share_no_zero_point() -> None:
    """Two weights of one number of channels: their zero points are equal, and each has its own."""
    case = case_of(
        given([("Conv", "x w", "a"), ("Conv", "a v", "y")], {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1)}, ["y"])
    )
    assert set(readers(built(case, {}))) == {1}


def test_readers_of_one_weight_part_and_compute_the_same() -> None:
    case = case_of(SHARED)
    shared = built(case, {})
    assert max(readers(shared)) == 2
    parted = apart(shared)
    assert set(readers(parted)) == {1}
    for level in ("all", "none"):
        np.testing.assert_array_equal(run(parted, case.feed, level)[0], run(shared, case.feed, level)[0])


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("refusals", range(4))
def test_a_session_where_it_saturates(monkeypatch: pytest.MonkeyPatch, refusals: int, as_bytes: bool) -> None:
    """First as the model is, then with weights apart; a model that ONNX Runtime cannot help still runs."""
    case, asked = case_of(SHARED), list[tuple[str, bool]]()
    model = built(case, {})
    make = runtime.ort.InferenceSession

    def refusing(source: bytes, options: runtime.ort.SessionOptions, **given: Any) -> runtime.Session:
        asked.append((options.get_session_config_entry(EXACT), IN_THE_WAY in given["disabled_optimizers"]))
        if len(asked) <= refusals:
            raise RuntimeError("Attempt to replace the existing tensor")
        return make(source, options, **given)

    expected = run(model, case.feed)[0]
    monkeypatch.setattr(runtime, "saturates", lambda: True)
    monkeypatch.setattr(runtime.ort, "InferenceSession", refusing)
    attempts = [("1", True), ("1", True), ("0", False)]
    if refusals == len(attempts):
        with pytest.raises(runtime.RuntimeModelError):
            runtime.session(model, threads=1)
        assert asked == attempts
        return
    session = runtime.session(model.SerializeToString() if as_bytes else model, threads=1)
    found = runtime.run(session, case.feed)[0]
    assert np.mean(np.abs(found - expected) > 1e-4) < 0.01  # other kernels, other halves
    assert asked == attempts[: max(refusals, 1) + 1]  # shared weights fail the first by themselves


def test_the_probe_is_right() -> None:
    """Where it says that nothing saturates, an optimized model computes what float arithmetic does."""
    feed = {"x": normal(64, 8)}
    model = given(
        [("MatMul", "x w", "a"), ("MatMul", "a v", "y")], {"w": normal(8, 8), "v": normal(8, 8)}, ["y"], ("n", 8)
    )
    hybrid = built(case_of(model, feed), {})
    plain, fast = run(hybrid, feed, "none")[0], run(hybrid, feed, "all")[0]
    assert saturates() or np.mean(np.abs(plain - fast) > 1e-4) < 0.01
