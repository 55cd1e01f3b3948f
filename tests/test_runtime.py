"""ONNX Runtime as we use it: what is fed stays as it is, and comes in the type that the model takes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper
from situations import ALL

from hybridq.graph import runtime


def test_what_is_fed_stays_as_it_is() -> None:
    """A BatchNormalization in training mode writes its running mean and variance into its inputs."""
    situation = ALL["endings-batch-statistics"]
    one = runtime.session(situation.model, threads=1)
    for feed in situation.feeds:
        before = {name: value.copy() for name, value in feed.items()}
        first, second = runtime.run(one, feed), runtime.run(one, feed)
        for name, value in before.items():
            np.testing.assert_array_equal(feed[name], value)
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_float32_model_takes_float16() -> None:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (found,) = runtime.run(runtime.session(model, threads=1), {"x": np.float16([1, -2])})
    np.testing.assert_array_equal(found, np.float32([-1, 2]))
