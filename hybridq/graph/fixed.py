"""A model of open axes as one of fixed shapes: what hangs on shapes alone becomes constants.

Converters of boards and of other runtimes take no open axis. Shape inference says what the shapes of one sample decide,
a run on that sample which numbers that gives; a shape that hangs on values (a NonZero's) stays open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto, numpy_helper

from hybridq.graph import edit, runtime
from hybridq.graph.intake.canonical import skeleton
from hybridq.graph.model import Model
from hybridq.graph.operators import Role, row_of
from hybridq.graph.runtime import Feed

NO_TENSOR = ("Sequence", "Optional")  # parts of the names of operators that make or take other things than tensors

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Fixed:
    """What a sample's shapes decide: ``constants``, and what is known of ``tensors`` then, inputs and outputs too."""

    constants: Values
    tensors: Mapping[str, ValueInfoProto]

    def put_into(self, graph: GraphProto) -> None:
        """Give a graph these shapes and take what makes the constants away; they are for the caller to put in."""
        _drop_makers(graph, self.constants)
        ends = [*graph.input, *graph.output]
        for value in ends:
            value.CopyFrom(self.tensors[value.name])
        inner = self.tensors.keys() - self.constants.keys() - {v.name for v in ends}
        del graph.value_info[:]
        graph.value_info.extend(v for n, v in self.tensors.items() if n in inner)


def is_open(model: Model) -> bool:
    """Whether the model leaves an axis of an input open."""
    shapes = (model.tensors[name].shape for name in model.inputs)
    return any(s is None or not all(isinstance(d, int) for d in s) for s in shapes)


def fix(whole: ModelProto, feed: Feed) -> None:
    """Give a runnable model, in place, the shapes of ``feed``."""
    found = fixed_by(whole, feed)
    found.put_into(whole.graph)
    whole.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in found.constants.items())
    edit.drop_unread_constants(whole.graph)


def fixed_by(whole: ModelProto, feed: Feed) -> Fixed:
    """What the shapes of ``feed`` decide in a runnable model, which stays as it is."""
    proto = skeleton(whole)
    del proto.graph.value_info[:]
    for value in proto.graph.input:
        dims = [TensorShapeProto.Dimension(dim_value=d) for d in np.shape(feed[value.name])]
        value.type.tensor_type.shape.CopyFrom(TensorShapeProto(dim=dims))
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    values, constants = _values(whole, feed), dict[str, NDArray[Any]]()
    while True:
        tensors = _inferred(proto)
        made = list(_decided(proto.graph, {n for n, v in tensors.items() if _is_static(v)}))
        if not made:
            return Fixed(constants, tensors)
        constants |= {n: values[n] for n in made}
        _drop_makers(proto.graph, constants)
        proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(values[n]), n) for n in made)


def _drop_makers(graph: GraphProto, constants: Values) -> None:
    kept = [n for n in graph.node if not (n.output and constants.keys() >= set(n.output))]
    del graph.node[:]
    graph.node.extend(kept)


def _values(whole: ModelProto, feed: Feed) -> Values:
    """Every tensor that would be constant if all shapes were, as it is on a sample."""
    names = list(_decided(whole.graph, None))
    if not names:
        return {}
    asked = onnx.ModelProto()
    asked.CopyFrom(whole)
    runtime.expose(asked, names)
    return dict(zip(names, runtime.run(runtime.session(asked, threads=1), feed, names), strict=True))


def _decided(graph: GraphProto, static: AbstractSet[str] | None) -> Iterator[str]:
    """Tensors that hang on constants and on the shapes of ``static`` ones (None: all) alone, but for the outputs."""
    constants, ends = {t.name for t in graph.initializer}, {o.name for o in graph.output}
    for node in graph.node:
        asks = _asks_shapes(node) and (static is None or static >= set(node.input))
        known = asks or constants.issuperset(filter(None, node.input))
        if known and _is_plain(node) and ends.isdisjoint(node.output):
            constants.update(node.output)
            yield from filter(None, node.output)


def _asks_shapes(node: NodeProto) -> bool:
    """Whether a node reads no value, only how large its inputs are."""
    roles = row_of(node).inputs
    return bool(node.input) and all(roles[i] is Role.SHAPE for i in range(len(node.input)))


def _is_plain(node: NodeProto) -> bool:
    """Whether a node computes tensors of tensors, always alike."""
    special = row_of(node).draws or edit.subgraphs(node) or any(part in node.op_type for part in NO_TENSOR)
    return not special


def _is_static(value: ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return bool(kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim))


def _inferred(proto: ModelProto) -> dict[str, ValueInfoProto]:
    """What ONNX's shape inference says of every tensor; of the ends alone where it knows an operator not."""
    try:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception:  # its errors share no public base class
        graph = proto.graph
    return {v.name: v for v in [*graph.input, *graph.value_info, *graph.output]}
