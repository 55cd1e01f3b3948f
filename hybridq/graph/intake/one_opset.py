"""One set of operators: local functions written out, opset 21 or the model's own where that is higher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import onnx
from onnx import (
    ModelProto,
    NodeProto,
    helper,
    inliner,
    version_converter,
)

from hybridq.errors import ModelError, Problem
from hybridq.graph import runtime
from hybridq.graph.edit import subgraphs
from hybridq.graph.intake.converter import keep_coordinates, keep_names
from hybridq.graph.intake.hints import forget_inferred
from hybridq.graph.intake.scans import BATCHED, without_batches
from hybridq.graph.opset import IR_VERSION, OPSET, PRIVATE, STANDARD, ir_version_of, newest_opset, opset_of
from hybridq.graph.outside import put_outside, without_outside
from hybridq.graph.runtime import RuntimeModelError
from hybridq.graph.words import first_line

OLDEST = 13  # what need not be converted where it cannot: quantizers a channel came with it
COORDINATES = 11  # Resize says from here on how places correspond
ROWS = 13  # Softmax works along one axis from here on
FIXED = 7  # models below are of a time when operators meant something else


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
