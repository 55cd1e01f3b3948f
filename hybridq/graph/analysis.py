"""The canonical graph to our view of it: layers, groups, names, costs.

Reads like the definition in ``model``: first every node gets a role (layer, absorbed activation, data movement,
neither), then data movement lets tensors share parameters in groups, then layers collect what they read, their weights,
their names and their MACs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph import edit, operators
from hybridq.graph.canonical import skeleton
from hybridq.graph.halves import is_widened
from hybridq.graph.model import Group, Layer, Model, Tensor, Weight
from hybridq.graph.names import aliases
from hybridq.graph.operators import Kind, Layout, Movement, Operator, Role, row_of
from hybridq.graph.steering import is_parameter, steering


@dataclass
class _View:
    """The graph with look-ups, and what the analysis finds as it goes."""

    graph: onnx.GraphProto
    tensors: dict[str, Tensor]
    initializers: dict[str, TensorProto]
    consumers: dict[str, tuple[NodeProto, ...]]
    producers: dict[str, NodeProto]
    outputs: set[str]
    ties_inputs: bool
    apart: frozenset[str]
    absorbed: dict[str, NodeProto] = field(default_factory=dict)  # compute node's name -> its activation
    absorbed_names: set[str] = field(default_factory=set)
    parent: dict[str, str] = field(default_factory=dict)  # union-find over tensors
    members: dict[str, list[str]] = field(default_factory=dict)  # representative -> the tensors of its group
    steering: dict[str, str] = field(default_factory=dict)  # tensor that is a parameter -> why it stays float

    def is_activation(self, name: str) -> bool:
        """Whether a tensor is float32, flows, and so can take a precision."""
        return name in self.tensors and name not in self.initializers and self.tensors[name].dtype == "float32"

    def find(self, name: str) -> str:
        """The representative of a tensor's group."""
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def share(self, a: str, b: str) -> None:
        """Let two tensors share parameters; the earlier one represents both."""
        ra, rb = self.find(a), self.find(b)
        if ra != rb:
            self.parent[rb] = ra


def analyse(
    canonical: onnx.ModelProto,
    given: onnx.ModelProto | None = None,
    *,
    name: str = "model",
    sha256: str = "",
    ties_outputs: bool = False,
    ties_inputs: bool = True,
    fixed_ranges: bool = True,
    apart: frozenset[str] = frozenset(),
) -> Model:
    """Our view of a canonical model.

    ``given`` supplies the names that the model had before. ``ties_outputs``: values concatenated only to leave the
    graph share parameters too (NPUs do so); otherwise such a Concat runs in float and keeps its inputs apart. Without
    ``ties_inputs`` every Concat is a layer with parameters of its own; without ``fixed_ranges`` all are measured.
    ``apart`` names nodes that neither share parameters nor are absorbed.
    """
    view = _view(canonical.graph, ties_inputs, apart)
    view.steering = steering(view.graph, view.is_activation, lambda node: _sums(node, view))
    _absorb(view)
    loose = set() if ties_outputs else _keeps_apart(view)
    sources = _sources(view)
    _share(view, sources, [n for n in view.graph.node if n.name not in loose and moves_data(n, view)])
    for tensor in view.parent:
        view.members.setdefault(view.find(tensor), []).append(tensor)
    known = aliases(given.graph, _homes(view), view.tensors) if given else {}
    layers = tuple(_layer(view, node, known) for node in view.graph.node if _is_layer(view, node))
    return Model(
        name=name,
        sha256=sha256,
        proto=skeleton(canonical),
        layers=layers,
        groups=_groups(view, sources, fixed_ranges),
        tensors=view.tensors,
        inputs=tuple(i.name for i in view.graph.input),
        outputs=tuple(o.name for o in view.graph.output),
    )


def _view(graph: onnx.GraphProto, ties_inputs: bool, apart: frozenset[str]) -> _View:
    tensors = {}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.HasField("tensor_type"):
            tensors[value.name] = _tensor(value)
    return _View(
        graph=graph,
        tensors=tensors,
        initializers={i.name: i for i in graph.initializer},
        consumers=edit.consumers(graph.node),
        producers=edit.producers(graph.node),
        outputs={o.name for o in graph.output},
        ties_inputs=ties_inputs,
        apart=apart,
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim]
    known = kind.HasField("shape")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name if kind.elem_type else "unknown"
    return Tensor(value.name, tuple(dims) if known else None, dtype)


def _absorb(view: _View) -> None:
    """Let a layer take in the Relu or Clip that alone reads its output."""
    for node in view.graph.node:
        row = row_of(node)
        if (
            row.kind not in (Kind.COMPUTE, Kind.ELEMENTWISE)
            or len(node.output) != 1
            or node.name in view.absorbed_names
        ):
            continue
        readers = view.consumers.get(node.output[0], ())
        if row.absorbed or node.output[0] in view.outputs or len(readers) != 1:
            continue
        reader = readers[0]
        if reader.name in view.apart:
            continue
        bounded = len(row_of(reader).inputs.roles) == 1 or clip_bounds(reader, view.initializers)
        if row_of(reader).absorbed and bounded and view.is_activation(reader.output[0]):
            view.absorbed[node.name] = reader
            view.absorbed_names.add(reader.name)


def clip_bounds(node: NodeProto, initializers: dict[str, TensorProto]) -> tuple[float, float] | None:
    """The constant bounds of a Clip (infinite where absent), None when they are computed or exclude zero."""
    bounds = [-math.inf, math.inf]
    for i, name in enumerate(node.input[1:3]):
        if name:
            if name not in initializers:
                return None
            bounds[i] = float(numpy_helper.to_array(initializers[name]).reshape(-1)[0])
    return (bounds[0], bounds[1]) if bounds[0] <= 0 <= bounds[1] else None


def moves_data(node: NodeProto, view: _View) -> bool:
    """Whether a node only moves values of activations, so that its output can share their parameters."""
    movement = row_of(node).movement
    ends = [*node.output[:1], *moved(node)]
    if movement is Movement.NONE or not all(view.is_activation(e) for e in ends):
        return False
    if node.name in view.apart or (row_of(node).moves_all and not view.ties_inputs):
        return False
    if movement is Movement.NEAREST:
        return bool(edit.attribute(node, "mode", b"nearest") == b"nearest")
    if movement is Movement.PADDED:
        constant = edit.attribute(node, "mode", b"constant") == b"constant"
        return not constant or _pads_zero(node, view) or _pads_unseen(node, view)
    return True


def _pads_zero(node: NodeProto, view: _View) -> bool:
    name = node.input[2] if len(node.input) > 2 else ""
    if not name:
        return True
    return name in view.initializers and not numpy_helper.to_array(view.initializers[name]).any()


def _pads_unseen(node: NodeProto, view: _View) -> bool:
    """Whether a Pad's value can only lose, so that the integers' lowest will do as well.

    It is not above zero, which every range holds, only MaxPools read the result, and each of their windows holds an
    element of the data, since no side is padded by a whole window.
    """
    value, pads = (view.initializers.get(name) for name in [*node.input[2:3], node.input[1]])
    if value is None or pads is None or numpy_helper.to_array(value).max(initial=0.0) > 0.0 or len(node.input) > 3:
        return False
    amounts = numpy_helper.to_array(pads).reshape(2, -1)
    readers = view.consumers.get(node.output[0], ())
    return node.output[0] not in view.outputs and bool(readers) and all(_overlaps(r, amounts) for r in readers)


def _overlaps(node: NodeProto, amounts: NDArray[Any]) -> bool:
    """Whether a node is a MaxPool whose every window reaches beyond a padding of ``amounts``, (2, rank)."""
    row, given = row_of(node), edit.attributes(node)
    if row.movement is not Movement.LARGEST or "kernel_shape" not in given or any(node.output[1:]):
        return False
    dilations = given.get("dilations", [1] * len(given["kernel_shape"]))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, given["kernel_shape"], strict=True)]
    plain = not any(given.get("pads", ())) and not given.get("ceil_mode", 0) and not amounts[:, :2].any()
    return plain and all(amounts[:, 2 + i].max() < k for i, k in enumerate(reach)) and bool(max(dilations) == 1)


def moved(node: NodeProto) -> list[str]:
    """The inputs whose values a data movement node carries to its output."""
    return list(node.input) if row_of(node).moves_all else list(node.input[:1])


def _keeps_apart(view: _View) -> set[str]:
    """Names of Concats whose values only leave the graph, and of the movement behind them: they run in float."""
    leaves: dict[str, bool] = {}
    for node in reversed(view.graph.node):
        for out in node.output:
            readers = view.consumers.get(out, ())
            leaves[out] = all(moves_data(r, view) and leaves[r.output[0]] for r in readers)
    found: set[str] = set()
    behind: set[str] = set()
    for node in view.graph.node:
        joins = row_of(node).moves_all or any(i in behind for i in node.input)
        if joins and moves_data(node, view) and leaves[node.output[0]]:
            found.add(node.name)
            behind.update(node.output)
    return found


def _is_layer(view: _View, node: NodeProto) -> bool:
    if node.name in view.absorbed_names or not any(view.is_activation(o) for o in node.output):
        return False
    return row_of(node).kind is not Kind.OTHER and not moves_data(node, view)


def _sources(view: _View) -> dict[str, str]:
    """Tensors where values enter a group, in graph order, with the layer that writes each ("" for model inputs)."""
    found = {i.name: "" for i in view.graph.input if view.is_activation(i.name)}
    for node in view.graph.node:
        if _is_layer(view, node):
            last = view.absorbed.get(node.name, node)
            found.update(dict.fromkeys(_activations(view, last), _layer_name(view, node)))
    return found


def _activations(view: _View, node: NodeProto) -> list[str]:
    """The outputs of a node that can take a precision."""
    return [o for o in node.output if o and view.is_activation(o)]


def _layer_name(view: _View, node: NodeProto) -> str:
    """The name of the layer that a node is: its first output that can take a precision, behind its activation."""
    return _activations(view, view.absorbed.get(node.name, node))[0]


def _share(view: _View, sources: dict[str, str], movement: list[NodeProto]) -> None:
    """Let what data movement reads and gives share parameters."""
    for name in sources:
        view.parent[name] = name
    for node in movement:
        inputs = [i for i in moved(node) if i in view.parent]
        if not inputs:
            continue
        for out in node.output:
            if view.is_activation(out):
                view.parent[out] = view.find(inputs[0])
        for other in inputs[1:]:
            view.share(inputs[0], other)


def _groups(view: _View, sources: dict[str, str], fixed_ranges: bool) -> tuple[Group, ...]:
    found = []
    for root, tensors in view.members.items():
        own = [t for t in tensors if t in sources]
        layers = tuple(dict.fromkeys(sources[t] for t in own if sources[t]))
        makers = [row_of(view.producers[t]) for t in own if t in view.producers]
        fixed = [m.fixed_range for m in makers if m.fixed_range is not None]
        all_known = fixed_ranges and len(fixed) == len(own)
        known = (min(r[0] for r in fixed), max(r[1] for r in fixed)) if all_known else None
        steers = next((view.steering[t] for t in tensors if t in view.steering), "")
        found.append(Group(root, tuple(tensors), tuple(own), layers, known, steers))
    return tuple(found)


def _layer(view: _View, node: NodeProto, known: Mapping[str, list[str]]) -> Layer:
    last = view.absorbed.get(node.name)
    output = _layer_name(view, node)
    row = row_of(node)
    place = row.inputs.find(Role.BIAS) if row.kind is Kind.COMPUTE else -1
    bias = node.input[place] if 0 < place < len(node.input) else ""
    own = [*_activations(view, node), node.name] + ([last.name] if last else [])
    weights = _weights(view, node, row)
    parameters = {n for i, n in enumerate(node.input) if is_parameter(node, i, view.steering)}
    inputs = tuple(i for i in dict.fromkeys(node.input) if view.is_activation(i) and i not in parameters)
    return Layer(
        name=output,
        op=node.op_type,
        node=node.name,
        activation=last.name if last else "",
        activation_op=last.op_type if last else "",
        inputs=inputs,
        weights=weights,
        bias=bias if bias in view.initializers else "",
        aliases=tuple(dict.fromkeys(a for a in [*own, *known.get(output, [])] if a != output)),
        macs=macs(node, view.tensors, view.initializers),
        group=view.find(output),
        float_only=_float_only(view, node, output, inputs, bool(weights)),
    )


def _float_only(view: _View, node: NodeProto, output: str, inputs: tuple[str, ...], weighted: bool) -> str:
    """Why a layer must stay float32, or nothing.

    ``inputs``: the data that it reads; ``weighted``: it has weights, which may be quantized even where its result
    shares parameters with what steers an operator.
    """
    row = row_of(node)
    if row.kind in (Kind.FLOAT, Kind.SUBGRAPH):
        return row.note
    shared = view.members.get(view.find(output), ()) if not weighted else (output, *node.output)
    steered = [view.steering[t] for t in shared if t in view.steering]
    if steered:
        return steered[0]
    return "" if inputs else "it reads no activation"


def _sums(node: NodeProto, view: _View) -> bool:
    """Whether a node sums products with weights over an axis: what it gives are features."""
    row = row_of(node)
    if row.kind is not Kind.COMPUTE:
        return row.kind is Kind.FLOAT and Role.WEIGHT in row.inputs.roles
    count = macs(node, view.tensors, view.initializers)
    out = view.tensors.get(node.output[0])
    return count != operators.macs(Layout.NONE, {}, None, None, out.shape if out else None)


def _weights(view: _View, node: NodeProto, row: Operator) -> tuple[Weight, ...]:
    """The constants that are quantized with a layer."""
    roles = (Role.OPERAND, Role.WEIGHT) if row.kind is Kind.COMPUTE else (Role.OPERAND,)
    found = []
    for i, name in enumerate(node.input):
        held = view.initializers.get(name)
        if held is not None and held.data_type == TensorProto.FLOAT and row.inputs[i] in roles:
            shape = tuple(held.dims)
            axis = operators.weight_axis(row.layout, edit.attributes(node), i, len(shape))
            found.append(Weight(name, i, shape, axis))
    return tuple(found)


def macs(node: NodeProto, tensors: Mapping[str, Tensor], initializers: Mapping[str, TensorProto]) -> int:
    """Multiply-accumulates of one sample; the number of output elements for operators without any."""

    def shape(name: str) -> tuple[int | str, ...] | None:
        if name in initializers:
            return tuple(initializers[name].dims)
        return tensors[name].shape if name in tensors else None

    weight = node.input[1] if len(node.input) > 1 and node.input[1] in initializers else ""
    left = node.input[0] if node.input else ""
    return operators.macs(row_of(node).layout, edit.attributes(node), shape(left), shape(weight), shape(node.output[0]))


def _homes(view: _View) -> dict[str, str]:
    """The layer that writes each tensor: its output, what its activation reads, the float16 output it is cast to."""
    found = {}
    for node in view.graph.node:
        if _is_layer(view, node):
            last = view.absorbed.get(node.name, node)
            found.update(dict.fromkeys([*_activations(view, node), last.output[0]], _layer_name(view, node)))
        elif node.op_type == "Cast" and node.output[0] in view.outputs and is_widened(*node.input, *node.output):
            found[node.output[0]] = found.get(node.input[0], "")
    return {tensor: layer for tensor, layer in found.items() if layer}
