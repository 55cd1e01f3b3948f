"""Copies of the two graphs that show what happens inside: extra outputs, and every layer cut out on its own.

Extra outputs behind a DequantizeLinear leave ONNX Runtime's integer kernels as they are (it gives the reader a copy of
its own); others keep it from fusing across them. So probes are for numbers only: times and the models' own outputs are
taken from the untouched models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.build.metadata import Copy, read_metadata
from hybridq.compare.held import Held
from hybridq.compare.results import LayerPair
from hybridq.graph import edit, runtime
from hybridq.graph.runtime import Session

OUTPUT, OWN = "individual/", "piece"
QDQ = ("QuantizeLinear", "DequantizeLinear")


class Unprobed(Exception):  # noqa: N818 - a reason, not an error
    """Why a layer cannot be cut out on its own."""


@dataclass(frozen=True)
class GraphIndex:
    """A graph and who writes what in it."""

    proto: onnx.ModelProto

    @cached_property
    def nodes(self) -> list[NodeProto]:
        """The nodes, in graph order: always the same objects, so that their ids tell them apart."""
        return list(self.proto.graph.node)

    @cached_property
    def places(self) -> dict[int, int]:
        """The place of each node in the graph, by the node's id."""
        return {id(node): place for place, node in enumerate(self.nodes)}

    @cached_property
    def producers(self) -> dict[str, NodeProto]:
        """The node that writes each tensor."""
        return edit.producers(self.nodes)

    @cached_property
    def initializers(self) -> dict[str, TensorProto]:
        """Initializers by name."""
        return {t.name: t for t in self.proto.graph.initializer}

    @cached_property
    def inputs(self) -> set[str]:
        """Names of the real inputs."""
        return {v.name for v in self.proto.graph.input} - set(self.initializers)

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return [v.name for v in self.proto.graph.output]

    @cached_property
    def copies(self) -> Mapping[str, Copy]:
        """What tensors hold that are copies of the float model's, as the model itself says."""
        metadata = read_metadata(self.proto)
        return metadata.copies if metadata else {}

    def has(self, tensor: str) -> bool:
        """Whether the graph computes this tensor or is given it."""
        return tensor in self.producers or tensor in self.inputs


def expose(proto: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also gives ``tensors``; those it does not compute are passed over."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    producers = GraphIndex(proto).producers
    runtime.expose(probe, (t for t in tensors if t in producers))
    return probe


def stored_as(view: GraphIndex, tensor: str) -> Held:
    """The integers behind a tensor, where one scale and zero point say what they stand for; else it as it is."""
    node = view.producers.get(tensor)
    if node is None or node.op_type != "DequantizeLinear" or len(node.input) < 3 or node.input[0] not in view.producers:
        return Held(tensor)
    scale, zero_point = (view.initializers.get(name) for name in node.input[1:3])
    if scale is None or zero_point is None or scale.data_type != TensorProto.FLOAT or math.prod(scale.dims) != 1:
        return Held(tensor)
    dtype = _INTEGERS.get(zero_point.data_type)
    if dtype is None:
        return Held(tensor)
    zero = int(numpy_helper.to_array(zero_point).reshape(-1)[0])
    return Held(node.input[0], dtype, float(numpy_helper.to_array(scale).reshape(-1)[0]), zero)


@dataclass(frozen=True, slots=True)
class Piece:
    """A layer cut out of the hybrid graph: the nodes, in order, and what it reads from outside.

    ``rename`` maps a tensor the nodes read to the float tensor that is fed in its place. ``stored`` is how it gives the
    layer's value.
    """

    pair: LayerPair
    nodes: tuple[NodeProto, ...]
    rename: dict[str, str]
    initializers: tuple[str, ...]
    stored: Held

    @property
    def reads(self) -> tuple[str, ...]:
        """The float tensors it is fed."""
        return tuple(dict.fromkeys(self.rename.values()))


def cut_out(view: GraphIndex, pair: LayerPair) -> Piece:
    """The nodes of the hybrid graph between the layer's inputs, unquantized, and ``pair.hybrid_tensor``.

    Walks back from the layer's output. The cut is made at every tensor that is one of ``pair.inputs`` or a copy of it;
    the float value takes its place. Raises Unprobed with the reason.
    """
    found: dict[int, NodeProto] = {}
    rename: dict[str, str] = {}
    initializers: dict[str, None] = {}
    widened: dict[str, NodeProto] = {}
    todo = [pair.hybrid_tensor]
    while todo:
        name = todo.pop()
        node = view.producers.get(name)
        if name in view.initializers:
            initializers[name] = None
            continue
        if node is None:
            raise Unprobed(f"reads '{name}', which is not among its inputs")
        if id(node) in found:
            continue
        if edit.subgraphs(node):
            raise Unprobed(f"holds a subgraph ({node.op_type})")
        found[id(node)] = node
        for source in filter(None, node.input):
            copy = view.copies.get(source, Copy(source))
            if copy.tensor not in pair.inputs:
                todo.append(source)
            elif copy.pads:
                widened[source] = helper.make_node("Pad", [copy.tensor, copy.pads], [source])
                rename[copy.tensor] = copy.tensor
                initializers[copy.pads] = None
            else:
                rename[source] = copy.tensor
    if not rename:
        raise Unprobed("reads none of its inputs")
    inner = sorted(found.values(), key=lambda n: view.places[id(n)])
    return Piece(pair, (*widened.values(), *inner), rename, tuple(initializers), _given(view, pair, inner))


def _given(view: GraphIndex, pair: LayerPair, nodes: Sequence[NodeProto]) -> Held:
    """How a piece of these nodes gives the layer's value."""
    stored = stored_as(view, pair.hybrid_tensor)
    return stored if any(stored.tensor in node.output for node in nodes) else Held(pair.hybrid_tensor)


def assemble(
    hybrid: GraphIndex, pieces: Sequence[Piece], typed: Callable[[str], onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """One model of disjoint pieces: inputs are float tensors, ``OUTPUT + layer`` are the outputs.

    ``typed`` gives the value info of a float tensor. Weights that several pieces share are there once.
    """
    graph = onnx.GraphProto(name="individual")
    graph.input.extend(typed(name) for name in dict.fromkeys(t for p in pieces for t in p.reads))
    shared = dict.fromkeys(name for p in pieces for name in p.initializers)
    for name in shared:
        graph.initializer.add().CopyFrom(hybrid.initializers[name])
        graph.initializer[-1].name = f"{OWN}/{name}"
    for i, piece in enumerate(pieces):
        kept = {"": "", **{name: f"{OWN}/{name}" for name in piece.initializers}, **piece.rename}
        for j, node in enumerate(piece.nodes):
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{OWN}{i}/{j}"
            copy.input[:] = [kept.get(name, f"{OWN}{i}/{name}") for name in node.input]
            copy.output[:] = [name and f"{OWN}{i}/{name}" for name in node.output]
        graph.node.add(
            op_type="Identity",
            name=f"{OWN}{i}/out",
            input=[f"{OWN}{i}/{piece.stored.tensor}"],
            output=[OUTPUT + piece.pair.name],
        )
        graph.output.add(name=OUTPUT + piece.pair.name)
    source = hybrid.proto
    return helper.make_model(
        graph, ir_version=source.ir_version, opset_imports=source.opset_import, functions=source.functions
    )


def join(exposed: onnx.ModelProto, alone: onnx.ModelProto) -> onnx.ModelProto | None:
    """One model of the float one and of pieces that read its tensors; None where the two do not go together.

    ONNX Runtime then hands a layer's input over in the layout its kernels like, and no tensor is fed.
    """
    ours, theirs = ({one.domain or "ai.onnx": one.version for one in proto.opset_import} for proto in (exposed, alone))
    names = (name for node in exposed.graph.node for name in (*node.input, *node.output))
    if (
        any(ours[domain] != theirs[domain] for domain in ours.keys() & theirs.keys())
        or any(node.op_type in QDQ for node in exposed.graph.node)
        or any(name.startswith((OWN, OUTPUT)) for name in names)
        or exposed.functions
        or alone.functions
    ):
        return None
    both = onnx.ModelProto()
    both.CopyFrom(exposed)
    both.graph.initializer.extend(alone.graph.initializer)
    both.graph.node.extend(alone.graph.node)
    both.graph.output.extend(alone.graph.output)
    del both.opset_import[:]
    both.opset_import.extend(helper.make_opsetid(d, v) for d, v in {**ours, **theirs}.items())
    both.ir_version = max(exposed.ir_version, alone.ir_version)
    return both


def value_infos(session: Session) -> dict[str, onnx.ValueInfoProto]:
    """What a session knows of its inputs and outputs: type and shape, dynamic axes left open.

    ONNX Runtime says ``[]`` of a scalar and of a tensor whose rank it does not know alike: both stay open.
    """
    found = {}
    for arg in (*session.get_inputs(), *session.get_outputs()):
        kind = _ELEMENTS.get(arg.type)
        if kind is not None:
            shape = [d if isinstance(d, int) else None for d in arg.shape] if arg.shape else None
            found[arg.name] = helper.make_tensor_value_info(arg.name, kind, shape)
    return found


def nbytes(info: onnx.ValueInfoProto) -> int:
    """Bytes of a tensor; an open axis counts as 1 (the batch)."""
    dims = (d.dim_value or 1 for d in info.type.tensor_type.shape.dim)
    return math.prod(dims) * helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type).itemsize


_ELEMENTS = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(float16)": TensorProto.FLOAT,  # at a model's ends alone: its layers read float32
    "tensor(double)": TensorProto.DOUBLE,
    "tensor(bool)": TensorProto.BOOL,
    **{f"tensor({s}int{n})": getattr(TensorProto, f"{s}int{n}".upper()) for s in ("", "u") for n in (8, 16, 32, 64)},
}

_INTEGERS = {
    getattr(TensorProto, f"{sign}INT{bits}"): np.dtype(f"{sign.lower()}int{bits}")
    for sign in ("", "U")
    for bits in (8, 16)
}
