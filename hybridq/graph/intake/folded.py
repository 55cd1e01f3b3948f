"""Constants that a quantizer reads and the file computes: exporters leave casts, shared copies and products of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from hybridq.errors import ModelError
from hybridq.graph import edit, runtime
from hybridq.graph.operators import row_of

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def with_constants(given: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what its quantizers read as initializers, where it hangs on constants alone.

    The values are those that ONNX Runtime computes without optimization. A model that needs none of it, or whose
    constants ONNX Runtime cannot compute, is given back as it is.
    """
    nodes = list(_constant_nodes(given.graph))
    wanted = _wanted(given.graph, nodes)
    if not wanted:
        return given
    part = onnx.ModelProto()
    part.CopyFrom(given)
    for held in (part.graph.node, part.graph.input, part.graph.output, part.graph.value_info):
        del held[:]
    part.graph.node.extend(nodes)
    edit.drop_unread_constants(part.graph)
    runtime.expose(part, wanted)
    try:
        values = runtime.run(runtime.session(part, threads=1, level="none"), {}, wanted)
    except ModelError:
        return given
    proto = onnx.ModelProto()
    proto.CopyFrom(given)
    made = dict(zip(wanted, values, strict=True))
    kept = [n for n in given.graph.node if made.keys().isdisjoint(n.output)]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in made.items())
    return proto


def _constant_nodes(graph: onnx.GraphProto) -> Iterator[NodeProto]:
    """Nodes of the main graph that hang on constants alone."""
    constant = {t.name for t in graph.initializer}
    for node in graph.node:
        if not row_of(node).draws and constant.issuperset(filter(None, edit.reads(node))):
            constant.update(node.output)
            yield node


def _wanted(graph: onnx.GraphProto, nodes: list[NodeProto]) -> list[str]:
    """What quantizers read of the results of ``nodes``, but for Constants and other quantizers, which all know."""
    known = ("Constant", *QUANTIZERS)
    made = {o for n in nodes if n.op_type not in known and len(n.output) == 1 for o in n.output}
    reads = (i for n in graph.node if "Linear" in n.op_type for i in n.input)
    return [name for name in dict.fromkeys(reads) if name in made]
