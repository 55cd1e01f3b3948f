"""float16 models compute in float32 here: nothing is lost but the rounding of results.

Inside hybridq such a model is in float32 from end to end, under the names of the given file; whatever is run or written
has float16 at the ends that had it (``narrow_ends``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from hybridq.graph.edit import TakenNames, attribute, inputs_of, rename
from hybridq.graph.operators import Kind, row_of
from hybridq.graph.outside import values_of

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
HALVES = "hybridq.float16"  # metadata of a canonical model: which of its inputs and outputs were float16
Places = tuple[list[int], list[int]]  # of inputs and outputs
TYPED = ("to", "dtype", "output_datatype")  # attributes of standard operators that name an element type


def is_half(proto: ModelProto) -> bool:
    """Whether anything in a model is in float16."""
    return next(_halves(proto), None) is not None


def widen_halves(proto: ModelProto) -> None:
    """Let a float16 model compute in float32, its inputs and outputs included; its metadata says which had float16.

    float32 holds every float16 exactly, so nothing is lost but the rounding of results. A model that gives sequences of
    float16 stays as it is.
    """
    if not is_half(proto):
        return
    ends = [v for v in [*inputs_of(proto.graph), *proto.graph.output] if any(_halves(v))]
    if not all(v.type.HasField("tensor_type") for v in ends):
        return
    mark_halves(proto, dict.fromkeys(v.name for v in ends))
    for found in list(_halves(proto)):
        _widen(found)


def native_halves(given: ModelProto, folded: ModelProto, inferred: GraphProto) -> dict[str, Places]:
    """Nodes that stay float and that ONNX Runtime computes in float16, by name: which inputs and outputs are float16.

    ``folded`` is the model as ONNX Runtime optimizes it, which puts Casts around what it computes in float32 instead.
    """
    told = [*given.graph.input, *given.graph.value_info, *given.graph.output, *inferred.value_info]
    halves = {v.name for v in told if v.type.tensor_type.elem_type == HALF}
    halves |= {t.name for t in given.graph.initializer if t.data_type == HALF}
    same = {(n.op_type, *n.input, *n.output) for n in folded.graph.node}
    found = {}
    for node in given.graph.node:
        row = row_of(node)
        if row.kind is Kind.FLOAT and not row.retypes and (node.op_type, *node.input, *node.output) in same:
            places = tuple([i for i, n in enumerate(names) if n in halves] for names in (node.input, node.output))
            if all(places):
                found[node.name] = (places[0], places[1])
    return found


def keep_halves(graph: GraphProto, kept: Mapping[str, Places]) -> None:
    """Let nodes of a widened graph compute in float16, between Casts."""
    if not kept:
        return
    fresh, nodes = TakenNames.of(graph).fresh, []
    for node in graph.node:
        inputs, outputs = kept.get(node.name, ([], []))
        before = [_cast(node.input[i], fresh(f"{node.input[i]}/float16"), HALF) for i in inputs]
        behind = [_cast(fresh(f"{node.output[i]}/float16"), node.output[i], FLOAT) for i in outputs]
        copy = NodeProto.FromString(node.SerializeToString())
        for i, cast in zip(inputs, before, strict=True):
            copy.input[i] = cast.output[0]
        for i, cast in zip(outputs, behind, strict=True):
            copy.output[i] = cast.input[0]
        nodes += [*before, copy, *behind]
    del graph.node[:]
    graph.node.extend(nodes)


def mark_halves(proto: ModelProto, ends: Iterable[str]) -> None:
    """Let a model say that it was in float16, at these inputs and outputs, too."""
    helper.set_model_props(proto, {HALVES: json.dumps(list(ends))})


def half_ends(proto: ModelProto) -> list[str] | None:
    """The inputs and outputs of a canonical model that were float16; None where nothing was."""
    return next((json.loads(p.value) for p in proto.metadata_props if p.key == HALVES), None)


def narrow_ends(proto: ModelProto, ends: Iterable[str], fresh: Callable[[str], str]) -> dict[str, str]:
    """Give float16 back to inputs and outputs, each by one Cast.

    Returns the names that their float32 tensors have from now on (``fresh`` makes free ones).
    """
    graph, halves = proto.graph, list(ends)
    wide = {name: fresh(f"{name}/float32") for name in halves}
    rename(graph, wide)
    inputs = [v.name for v in graph.input if v.name in wide]
    for value in [*graph.input, *graph.output]:
        if value.name in wide:
            value.type.tensor_type.elem_type = HALF
    heads = [_cast(n, wide[n], FLOAT) for n in inputs]
    tails = [_cast(wide[n], n, HALF) for n in halves if n not in inputs]
    nodes = [*heads, *graph.node, *tails]
    del graph.node[:]
    graph.node.extend(nodes)
    return wide


def _cast(source: str, result: str, kind: int) -> NodeProto:
    """A Cast, named by its float16 end or the one that is new: the longer name."""
    return helper.make_node("Cast", [source], [result], name=f"{max(source, result, key=len)}/Cast", to=kind)


def _halves(message: Message) -> Iterator[Message]:
    """Every tensor, type and attribute inside that says float16, in subgraphs and functions too."""
    types = (TypeProto.Tensor, TypeProto.SparseTensor)
    if (
        (isinstance(message, TensorProto) and message.data_type == HALF)
        or (isinstance(message, types) and message.elem_type == HALF)
        or (isinstance(message, AttributeProto) and message.name in TYPED and message.i == HALF)
    ):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _halves(part)


def _widen(found: Message) -> None:
    """Make float32 of one float16 tensor, type or attribute."""
    if isinstance(found, TensorProto):
        values = values_of(found).astype(np.float32)
        found.CopyFrom(numpy_helper.from_array(values, found.name))
    elif isinstance(found, AttributeProto):
        found.i = FLOAT
    elif isinstance(found, TypeProto.Tensor | TypeProto.SparseTensor):
        found.elem_type = FLOAT


def drop_empty_casts(graph: GraphProto) -> None:
    """Make an Identity of each Cast from float32 to float32 that ONNX Runtime left."""
    floats = {v.name for v in [*graph.input, *graph.value_info] if v.type.tensor_type.elem_type == FLOAT}
    for node in graph.node:
        widens = node.op_type == "Cast" and attribute(node, "to") == FLOAT
        if widens and node.input[0] in floats:
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, name=node.name))
