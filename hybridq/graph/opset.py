"""One set of operators: local functions written out, opset 21 or the model's own where that is higher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import onnx
from onnx import (
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    defs,
    helper,
    inliner,
    numpy_helper,
    version_converter,
)

from hybridq.errors import ModelError, Problem
from hybridq.graph import runtime
from hybridq.graph.converter import keep_coordinates, keep_names
from hybridq.graph.edit import subgraphs
from hybridq.graph.hints import forget_inferred
from hybridq.graph.outside import put_outside, without_outside
from hybridq.graph.runtime import RuntimeModelError
from hybridq.graph.scans import BATCHED, without_batches
from hybridq.graph.words import first_line

OPSET, IR_VERSION = 21, 10  # what models below are brought to: int16 needs this much
NEWER_IR_VERSION = 11  # of opset 22 and above
STANDARD = ("", "ai.onnx")
OLDEST = 13  # what need not be converted where it cannot: quantizers a channel came with it
COORDINATES = 11  # Resize says from here on how places correspond
ROWS = 13  # Softmax works along one axis from here on
FIXED = 7  # models below are of a time when operators meant something else
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


def has_rows(proto: ModelProto) -> bool:
    """Whether a model has a Softmax or the like of the time when these worked along several axes at once."""
    kinds = ("Softmax", "LogSoftmax", "Hardmax")
    return 0 < opset_of(proto) < ROWS and any(n.op_type in kinds for n in proto.graph.node)


def inlined(proto: ModelProto) -> ModelProto:
    """The model with its own functions written out, as torch's dynamo exporter makes them."""
    if not proto.functions:
        return proto
    _say_defaults(proto)
    return inliner.inline_local_functions(proto)


def _say_defaults(proto: ModelProto) -> None:
    """Give every call of a function the attributes that it leaves at their defaults: the inliner forgets those."""
    defaults = {(f.domain, f.name, f.overload): f.attribute_proto for f in proto.functions}
    for node in [n for nodes in (proto.graph.node, *(f.node for f in proto.functions)) for n in _all(nodes)]:
        told = {a.name for a in node.attribute}
        missing = defaults.get((node.domain, node.op_type, node.overload), ())
        node.attribute.extend(a for a in missing if a.name not in told)


def _all(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, and those of the graphs inside."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all(graph.node)


def drop_long_domain(proto: ModelProto) -> None:
    """Let standard operators have the domain ``""``: ``ai.onnx`` is another word for it, which onnx's checker lacks."""
    for node in _all(proto.graph.node):
        if node.domain and node.domain in STANDARD:
            node.domain = ""
    for version in proto.opset_import:
        if version.domain and version.domain in STANDARD:
            version.domain = ""


def brought_up(proto: ModelProto, path: str) -> ModelProto:
    """A model of opset 21, or of its own where that is higher and ONNX Runtime loads it. Raises ModelError."""
    version = opset_of(proto)
    if version == 0:  # operators of other domains alone; the quantizers beside them are standard ones
        proto.opset_import.append(helper.make_opsetid("", OPSET))
        version = OPSET
    wanted = min(max(version, OPSET), newest_opset())
    if version != wanted:
        try:
            proto = _converted(proto, version, wanted, path)
        except ModelError:
            wanted = version
            proto.ir_version = ir_version_of(wanted)
            if wanted <= newest_opset():
                _must_load(proto, path)
            if wanted < OLDEST or not runtime.loads(proto):
                raise
    proto.ir_version = ir_version_of(wanted)
    return proto


def _must_load(proto: ModelProto, path: str) -> None:
    """Raise ModelError where ONNX Runtime does not take a model, with what is wrong with it."""
    try:
        runtime.session(proto, threads=1, level="none")
    except RuntimeModelError as error:
        raise ModelError([replace(p, path=path) for p in error.problems]) from error


def _converted(proto: ModelProto, version: int, wanted: int, path: str) -> ModelProto:
    proto.ir_version = IR_VERSION  # older ones list initializers among the inputs, which the converter insists on
    try:
        whole = without_batches(proto) if version == BATCHED else proto
        found: ModelProto = version_converter.convert_version(without_outside(whole), wanted)
        onnx.checker.check_model(found) if version < FIXED else None
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_refusal(proto, version, wanted, path, error)) from error
    put_outside(found, proto)
    if version < ROWS:
        keep_names(found.graph)
    forget_inferred(found.graph, proto.graph)
    if version < COORDINATES:
        keep_coordinates(found.graph)
    return found


def _refusal(proto: ModelProto, version: int, wanted: int, path: str, error: Exception) -> Problem:
    own = next((n for n in proto.graph.node if n.domain == PRIVATE), None)
    hint = "Export the model again with opset 13 to 21."
    if own is not None:
        hint = (
            f"Its {own.op_type} is ONNX Runtime's own: give the model from before ONNX Runtime or a fusion optimized "
            "it."
        )
    elif version > wanted:
        hint = f"The installed ONNX Runtime loads opset {wanted} at most: export with that, or update ONNX Runtime."
    message = f"opset {version} cannot be converted to {wanted}"
    return Problem(message, path=path, hint=hint, detail=first_line(error))
