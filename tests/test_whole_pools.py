"""A mean over the whole picture as RKNN-Toolkit2 computes it: a chain of depthwise convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import given as graph
from helpers_graphs import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import run

from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.whole_pools import split_whole_pools, stages

THEIRS = {  # windows and zeros around, as RKNN-Toolkit2 2.5.0 has them in check3_fuse_ops.onnx
    (13, 13): [((7, 7), (0, 0, 1, 1)), ((2, 2), (0, 0, 0, 0))],
    (20, 20): [((7, 7), (0, 0, 1, 1)), ((3, 3), (0, 0, 0, 0))],
    (5, 9): [((5, 7), (0, 2, 0, 3)), ((1, 2), (0, 0, 0, 0))],
    (60, 10): [((7, 7), (1, 2, 2, 2)), ((7, 2), (2, 0, 3, 0)), ((2, 1), (0, 0, 0, 0))],
    (56, 56): [((7, 7), (0, 0, 0, 0)), ((7, 7), (3, 3, 3, 3)), ((2, 2), (0, 0, 0, 0))],
    (5, 5): [((5, 5), (0, 0, 0, 0))],
}


@pytest.mark.parametrize("size", THEIRS)
def test_windows_are_the_toolkits(size: tuple[int, int]) -> None:
    assert stages(*size, 7) == THEIRS[size]


def pooled(op: str, size: tuple[int, int], **attributes: Any) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A canonical model of one pool, and the same with its chain."""
    tensors = {"axes": np.array([-1, 2])} if op == "ReduceMean" else {}
    inputs = "x axes" if tensors else "x"
    nodes = [(op, inputs, "p", attributes), ("Exp", "p", "y")]
    before = canonicalize(graph(nodes, tensors, ["y"], ("n", 3, *size)))
    after = onnx.ModelProto()
    after.CopyFrom(before)
    split_whole_pools(after, 7)
    onnx.checker.check_model(after, full_check=True)
    return before, after


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceMean flat"]),
)
def test_the_chain_is_the_mean(height: int, width: int, kind: str) -> None:
    op, *flat = kind.split()
    window = {"kernel_shape": [height, width]} if op == "AveragePool" else {}
    before, after = pooled(op, (height, width), **window, **({"keepdims": 0} if flat else {}))
    assert (op in {n.op_type for n in after.graph.node}) == (height * width == 1)
    feed = {"x": normal(2, 3, height, width)}
    found, wanted = run(after, feed, "none")[0], run(before, feed, "none")[0]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attributes", "between"),
    [
        ("GlobalAveragePool", {}, "p/node_2conv0"),
        ("AveragePool", {"kernel_shape": [14, 14]}, "p/node_2gavg_2conv0"),
        ("ReduceMean", {}, "x_gavg_2conv0"),
    ],
)
def test_what_lies_between_has_the_toolkits_name(op: str, attributes: dict[str, Any], between: str) -> None:
    _, after = pooled(op, (14, 14), **attributes)
    assert [list(n.output) for n in after.graph.node] == [[between], ["p"], ["y"]]


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("AveragePool", {"kernel_shape": [16, 16], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"kernel_shape": [7, 7]}),
        ("GlobalMaxPool", {}),
    ],
)
def test_other_pools_stay(op: str, attributes: dict[str, Any]) -> None:
    before, after = pooled(op, (14, 14), **attributes)
    assert before.SerializeToString() == after.SerializeToString()
