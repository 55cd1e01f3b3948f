"""ONNX Runtime as we use it: what is fed stays as it is, and comes in the type that the model takes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper
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


def test_no_subgraph_ends_the_process() -> None:
    """ONNX Runtime follows an integer tensor that is moved into the branch that reads it, and dies of it (SIGABRT)."""
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["t"], [f"{op}/out"])], op, [], [helper.make_tensor_value_info(f"{op}/out", 1, None)]
        )
        for op in ("Relu", "Neg")
    ]
    held = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(128), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    kinds = {"x": (TensorProto.FLOAT, [2, 3]), "c": (TensorProto.BOOL, [])}
    inputs = [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in kinds.items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (found,) = runtime.run(runtime.session(model, threads=1), {"x": np.ones((2, 3), np.float32), "c": np.array(False)})
    np.testing.assert_allclose(found, -np.ones((3, 2)), rtol=1e-6)
