"""float16 models compute in float32 here: nothing is lost but the rounding of results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, TypeProto, helper, numpy_helper

from hybridq.graph.edit import Names, attribute, subgraphs

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
WIDE = "_float32"  # what stands behind the name of an input or output, for what the model computes with
TYPED = ("to", "dtype", "output_datatype")  # attributes of standard operators that name an element type


def widen_halves(proto: ModelProto) -> bool:
    """Let a float16 model compute in float32; returns whether there was anything in float16.

    float32 holds every float16 exactly, so nothing is lost but the rounding of results. The model's own float16 inputs
    and outputs keep their type, each behind one Cast; a model that gives sequences of float16 stays as it is.
    """
    graph = proto.graph
    halves = list(_halves(proto))
    ends = [v for v in [*graph.input, *graph.output] if any(_halves(v))]
    if not all(v.type.HasField("tensor_type") for v in ends):
        return False
    for found in halves:
        _widen(found)
    inputs = [v.name for v in graph.input if v in ends]
    outputs = [v.name for v in graph.output if v in ends and v.name not in inputs]
    names = Names.of(graph)
    wide = {name: names.fresh(f"{name}{WIDE}") for name in dict.fromkeys([*inputs, *outputs])}
    _rename(graph, wide)
    for value in ends:
        value.type.tensor_type.elem_type = HALF
    heads = [helper.make_node("Cast", [n], [wide[n]], to=FLOAT) for n in inputs]
    tails = [helper.make_node("Cast", [wide[n]], [n], to=HALF) for n in outputs]
    nodes = [*heads, *graph.node, *tails]
    del graph.node[:]
    graph.node.extend(nodes)
    return bool(halves)


def is_widened(wide: str, name: str) -> bool:
    """Whether ``wide`` is what ``widen_halves`` made of the output ``name``."""
    return wide.startswith(f"{name}{WIDE}")


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
        values = numpy_helper.to_array(found).astype(np.float32)
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


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    """Give tensors other names wherever they are made or read; the graph's inputs and outputs keep theirs."""
    for node in graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
        for inner in subgraphs(node):
            _rename(inner, names)
            for output in inner.output:
                output.name = names.get(output.name, output.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
