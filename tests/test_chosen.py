"""Outputs that list what was chosen by score are told apart from those that can be compared row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_chinese import is_translated
from situations.common import int64, written

import hybridq
from hybridq.graph.chosen import lists
from hybridq.steps.common import read_state

HEAD = """(float[1, 8, 8, 8] x) => (float[A, B, C] y) {
    c = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)  h = Conv(r, v)  f = Flatten(h)  s = Sigmoid(f)
    b = Conv(r, u)  m = Reshape(b, places)  n = Transpose<perm = [0, 2, 1]>(m)"""
CHOICE = "t, i = TopK(s, five)  q = Unsqueeze(i, two)  e = Tile(q, four)  g = GatherElements<axis = 1>(n, e)"
HELD = {
    "w": (8, 8, 3, 3),
    "v": (1, 8, 1, 1),
    "u": (4, 8, 1, 1),
    "places": int64(1, 4, 64),
    "five": int64(20),
    "two": int64(2),
    "four": int64(1, 1, 4),
    "k": (4, 4),
}


def model(tail: str) -> onnx.ModelProto:
    return written(f"{HEAD} {tail} }}", HELD, opset=17, x=(1, 8, 8, 8)).model


@pytest.mark.parametrize(
    ("tail", "ends"),
    [
        (f"{CHOICE} y = Identity(g)", {"b", "s"}),
        (f"{CHOICE} z = Unsqueeze(t, two)  y = Concat<axis = 2>(g, z)", {"b", "s"}),
        ("z = Unsqueeze(s, two)  y = Concat<axis = 2>(n, z)", set()),  # all, in a fixed order
        (f"{CHOICE} y = MatMul(g, k)", set()),  # what a layer computes of the chosen is no list
    ],
)
def test_what_is_chosen_and_what_it_is_chosen_from(tail: str, ends: set[str], tmp_path: Path) -> None:
    onnx.save(model(tail), tmp_path / "m.onnx")
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 8, 8, 8)).astype(np.float32)} for i in range(6)]
    found = hybridq.step1(tmp_path / "m.onnx", feeds, tmp_path / "b", threads=1)
    listed = lists(read_state(tmp_path / "b").model)
    assert {name for parts in listed.values() for name in parts} == ends
    told = [f for f in found.findings if f.code == "listed"]
    assert len(told) == bool(ends)
    assert all(is_translated(f.message) and is_translated(f.remedy) for f in told)


def test_the_advice_is_to_end_before_the_choice_and_there_the_model_is_good(tmp_path: Path) -> None:
    onnx.save(model(f"{CHOICE} y = Identity(g)"), tmp_path / "m.onnx")
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 8, 8, 8)).astype(np.float32)} for i in range(6)]
    np.savez(tmp_path / "d.npz", x=np.concatenate([f["x"] for f in feeds]))
    least = []
    for ends in ((), ("b", "s")):
        hybridq.step1(tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "b", outputs=ends, threads=1, force=True)
        hybridq.step2(tmp_path / "b", threads=1)
        compared = hybridq.step3(tmp_path / "b", threads=1, seconds=0)
        least.append(min(o.sqnr_db for o in compared.report.outputs))
        first = compared.verdict.actions[0]
        assert (first.kind == "cut") == (not ends)
        if not ends:
            assert "--outputs b,s " in first.command + " "
            assert is_translated(first.cause)
            assert is_translated(first.why)
    assert least[0] < 20.0 < least[1], least
