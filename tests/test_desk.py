"""Tensors of a sample measured together: what does not fit there is measured by itself, and nothing else is."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hybridq.compare.desk import TOGETHER, BoundSession, Desk, Side, spread_of
from hybridq.compare.held import Held
from hybridq.compare.histograms import HistogramWatch
from hybridq.graph import runtime
from hybridq.graph.opset import IR_VERSION, OPSET

NAMES = ["a", "b", "c"]
ROWS = 700  # of 3 numbers: more than are counted of a tensor


def _session() -> runtime.Session:
    nodes = [helper.make_node("Identity", [f"{n}/in"], [n]) for n in NAMES]
    ends = [
        [helper.make_tensor_value_info(f"{n}{end}", TensorProto.FLOAT, ["rows", 3]) for n in NAMES]
        for end in ("/in", "")
    ]
    graph = helper.make_graph(nodes, "three", *ends)
    proto = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    return runtime.session(proto, threads=1)


SESSION = _session()


def _sample(kinds: tuple[str, ...], seed: int) -> dict[str, NDArray[np.float32]]:
    """One feed; by ``kinds`` a tensor is whole, empty, of fewer rows, or has a number that is none."""
    rng = np.random.default_rng(seed)
    feed = {}
    for name, kind in zip(NAMES, kinds, strict=True):
        x = rng.normal(size=(ROWS, 3)).astype(np.float32)
        if kind == "nan":
            x[rng.integers(ROWS), 1] = np.nan
        feed[f"{name}/in"] = x[: {"empty": 0, "fewer": ROWS // 3}.get(kind, ROWS)]
    return feed


def _desk() -> Desk:
    stored = [Held(name) for name in NAMES]
    return Desk(
        [0, 1, 2],
        (Side(stored), Side(stored), Side(stored)),
        BoundSession(SESSION, NAMES),
        BoundSession(SESSION, NAMES),
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from(["whole", "empty", "fewer", "nan"])] * 3), min_size=1, max_size=9))
def test_only_what_does_not_fit_is_counted_by_itself(kinds: list[tuple[str, ...]]) -> None:
    desk = _desk()
    together, single = (HistogramWatch(NAMES, {}) for _ in range(2))
    whole = _sample(("whole",) * 3, 99)  # the shapes of a first sample are those that have a place
    list(desk.measured([(whole, whole)]))
    fed = [_sample(kind, seed) for seed, kind in enumerate(kinds)]
    alone = []
    for measured in desk.measured([(feed, feed) for feed in fed]):
        with mock.patch.object(HistogramWatch, "add", autospec=True, side_effect=HistogramWatch.add) as added:
            spread_of(desk, measured, together)
        alone += [call.args[1] for call in added.call_args_list]
        assert len(measured.samples) <= TOGETHER
    assert alone == [i for kind in kinds for i, one in enumerate(kind) if one != "whole"]
    for seed, feed in enumerate(fed):
        for i, name in enumerate(NAMES):
            single.add(i, feed[f"{name}/in"], counted=seed == 0)
    assert np.array_equal(together.counts, single.counts)
    assert np.array_equal(together.own, single.own)
    assert np.array_equal(together.ends, single.ends, equal_nan=True)
