"""What tests of the canonical form share: small models, and what must hold of every canonical one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from hybridq.graph import runtime
from hybridq.graph.opset import newest_opset

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: list[str],
    tensors: dict[str, Array] | None = None,
    *,
    opset: int = 21,
    dtype: int = FLOAT,
    out_dtype: int | None = None,
    **domains: int,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, dtype, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(o, out_dtype or dtype, None) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in (tensors or {}).items()],
    )
    sets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(k, v) for k, v in domains.items()]
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


def subgraphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for a in node.attribute:
            for inner in [a.g, *a.graphs]:
                if inner.node:
                    yield from subgraphs(inner)


def assert_canonical(found: ModelProto) -> None:
    graph = found.graph
    initializers = {i.name for i in graph.initializer}
    assert {o.version for o in found.opset_import if o.domain == ""} <= set(range(21, newest_opset() + 1))
    assert found.ir_version in (10, 11)
    assert not initializers & {i.name for i in graph.input}
    names = [n.name for n in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert not {n.op_type for n in graph.node} & {"Constant"}
    unavoidable = {i.name for i in graph.input} | {o.name for o in graph.output}  # two names for one tensor
    assert all(n.input[0] in unavoidable for n in graph.node if n.op_type in ("Identity", "Dropout"))
    typed = {v.name for v in [*graph.input, *graph.output, *graph.value_info]}
    assert {o for n in graph.node for o in n.output if o} <= typed


def conv_bn(opset: int = 21, **extra: Any) -> ModelProto:
    random = np.random.default_rng(0)
    tensors = {"w": random.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    tensors |= {k: random.uniform(0.5, 2, 4).astype(np.float32) for k in ("scale", "bias", "mean", "var")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["b"], epsilon=1e-5),
        helper.make_node("Identity", ["b"], ["i"]),
        helper.make_node("Relu", ["i"], ["y"]),
    ]
    return model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], tensors, opset=opset, **extra)


X = {"x": np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)}


TOLERANCE = 1e-5


def assert_same(given: ModelProto, found: ModelProto, feed: dict[str, Array]) -> None:
    for level in ("all", "none"):
        both = [runtime.run(runtime.session(m, threads=1, level=level), feed) for m in (given, found)]
        for a, b in zip(*both, strict=True):
            assert a.dtype == b.dtype
            good = np.isfinite(a)
            np.testing.assert_array_equal(a[~good], b[~good])
            assert np.abs(a - b)[good].max(initial=0) <= TOLERANCE * np.abs(a)[good].max(initial=0)
