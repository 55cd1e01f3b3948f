"""MNN's parameters: what it computes wrongly in integers stays float."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from hybridq import step1, step4
from tests.helpers_graphs import given as graph_of


@pytest.mark.parametrize("between", ["", "Relu", "Transpose"])
def test_mnn_leaves_in_float_what_a_maxpool_reads(between: str, tmp_path: Path) -> None:
    """Its MaxPool of integers is wrong; the layers before keep their 8 bits."""
    random = np.random.default_rng(0)
    turn = {"perm": [0, 1, 3, 2]} if between == "Transpose" else {}
    weights = {w: random.normal(size=(4, 4, 1, 1)).astype(np.float32) for w in "uvw"}
    nodes = [("Conv", "x u", "a"), ("Conv", "a v", "b"), *([(between, "b", "c", turn)] if between else [])]
    nodes += [("MaxPool", "c" if between else "b", "d", {"kernel_shape": [2, 2]}), ("Conv", "d w", "y")]
    onnx.save(graph_of(nodes, weights, ["y"], (1, 4, 6, 6)), tmp_path / "m.onnx")
    feeds = [{"x": random.normal(size=(1, 4, 6, 6)).astype(np.float32)} for _ in range(2)]
    step1(tmp_path / "m.onnx", feeds, tmp_path / "b", dtype="uint8", threads=1)
    found = json.loads(step4(tmp_path / "b", "mnn").path.read_text())
    assert [x["output"][0]["name"] for x in found["algo"][0]["quantParams"]["layer"]] == ["a"]
