"""Opsets: which the models inside and the built ones have, and whose quantizers go with them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from onnx import (
    ModelProto,
    OperatorSetIdProto,
    TensorProto,
    defs,
    helper,
    numpy_helper,
)

from hybridq.graph import runtime

OPSET, IR_VERSION = 21, 10  # what models below are brought to: int16 needs this much
NEWER_IR_VERSION = 11  # of opset 22 and above
STANDARD = ("", "ai.onnx")
PRIVATE = "com.microsoft"


def opset_of(proto: ModelProto) -> int:
    """The version of the standard operators that a model imports, 0 where it imports none."""
    return next((o.version for o in proto.opset_import if o.domain in STANDARD), 0)


def ir_version_of(opset: int) -> int:
    """The version of the file format that goes with an opset."""
    return IR_VERSION if opset <= OPSET else NEWER_IR_VERSION


@lru_cache
def newest_opset() -> int:
    """The newest opset that the installed ONNX Runtime loads and quantizes in."""
    return next((v for v in range(defs.onnx_opset_version(), OPSET, -1) if runtime.loads(_probe(v))), OPSET)


def quantizer_domain(opset: int) -> str:
    """Whose QuantizeLinear and DequantizeLinear a model can have: ONNX Runtime's own where it lacks the standard ones.

    Those of opsets below 21 know no int16; an opset newer than ONNX Runtime's kernels has none.
    """
    return "" if OPSET <= opset <= newest_opset() else PRIVATE


def opset_imports(proto: ModelProto, *, quantizes: bool = True) -> list[OperatorSetIdProto]:
    """The imports of a model that is made of ``proto``, with those of its quantizers."""
    own = {"" if o.domain in STANDARD else o.domain: o.version for o in proto.opset_import}
    if quantizes and quantizer_domain(opset_of(proto)):
        own[PRIVATE] = own.get(PRIVATE, 1)
    return [helper.make_opsetid(domain, version) for domain, version in own.items()]


def _probe(opset: int) -> ModelProto:
    """A model that quantizes its input."""
    x, q = (helper.make_tensor_value_info(n, t, [1]) for n, t in (("x", TensorProto.FLOAT), ("q", TensorProto.INT16)))
    numbers = [
        numpy_helper.from_array(np.ones((), np.float32), "scale"),
        numpy_helper.from_array(np.zeros((), np.int16), "zero"),
    ]
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"])]
    graph = helper.make_graph(nodes, "probe", [x], [q], numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version_of(opset))
