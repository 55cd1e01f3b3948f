"""The canonical graph to our view of it: layers, groups, names, costs.

Reads like the definition in ``model``: first every node gets a role (layer, absorbed activation, data movement,
neither), then data movement lets tensors share parameters in groups, then layers collect what they read, their weights,
their names and their MACs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
from onnx import NodeProto, TensorProto

from hybridq.graph import edit, operators
from hybridq.graph.intake.canonical import skeleton
from hybridq.graph.model import Group, Layer, Model, Tensor, Weight
from hybridq.graph.names import aliases
from hybridq.graph.operators import Kind, Layout, Operator, Role, row_of
from hybridq.graph.outside import values_of
from hybridq.graph.shared_qparams import moves_data, share_parameters
from hybridq.graph.states import States
from hybridq.graph.steering import is_parameter, steering
from hybridq.graph.view import GraphView, Sharing, view_of

USUAL = Sharing()


def analyse(
    canonical: onnx.ModelProto,
    given: onnx.ModelProto | None = None,
    *,
    name: str = "model",
    sha256: str = "",
    sharing: Sharing = USUAL,
    fixed_ranges: bool = True,
    states: States | None = None,
) -> Model:
    """Our view of a canonical model.

    ``given`` supplies the names that the model had before. ``sharing``: which tensors share parameters. Without
    ``fixed_ranges`` all ranges are measured. ``states`` are a recurrent model's, output by input: the two are one
    tensor a step apart.
    """
    view = view_of(canonical.graph, sharing)
    view.states = {} if sharing.apart else states or {}  # one that arrived quantized has parameters for each
    view.steering = steering(view.graph, view.is_activation, lambda node: _sums(node, view))
    _absorb(view)
    sources = _sources(view)
    view.members = share_parameters(view, sources)
    view.group = {tensor: group for group, tensors in view.members.items() for tensor in tensors}
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
        states=dict(states or {}),
    )


def _absorb(view: GraphView) -> None:
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
        if reader.name in view.sharing.apart or not row_of(reader).absorbed:
            continue
        bounded = len(row_of(reader).inputs.roles) == 1 or clip_bounds(reader, view.initializers)
        if bounded and view.is_activation(reader.output[0]):
            view.absorbed[node.name] = reader
            view.absorbed_names.add(reader.name)


def clip_bounds(node: NodeProto, initializers: dict[str, TensorProto]) -> tuple[float, float] | None:
    """The constant bounds of a Clip (infinite where absent), None when they are computed or exclude zero."""
    bounds = [-math.inf, math.inf]
    for i, name in enumerate(node.input[1:3]):
        if name:
            if name not in initializers:
                return None
            bounds[i] = float(values_of(initializers[name]).reshape(-1)[0])
    return (bounds[0], bounds[1]) if bounds[0] <= 0 <= bounds[1] else None


def _is_layer(view: GraphView, node: NodeProto) -> bool:
    if node.name in view.absorbed_names or not any(view.is_activation(o) for o in node.output):
        return False
    return row_of(node).kind is not Kind.OTHER and not moves_data(node, view)


def _sources(view: GraphView) -> dict[str, str]:
    """Tensors where values enter a group, in graph order, with the layer that writes each ("" for model inputs)."""
    found = {i.name: "" for i in view.graph.input if view.is_activation(i.name)}
    for node in view.graph.node:
        if _is_layer(view, node):
            last = view.absorbed.get(node.name, node)
            found.update(dict.fromkeys(_activations(view, last), _layer_name(view, node)))
    return found


def _activations(view: GraphView, node: NodeProto) -> list[str]:
    """The outputs of a node that can take a precision."""
    return [o for o in node.output if o and view.is_activation(o)]


def _layer_name(view: GraphView, node: NodeProto) -> str:
    """The name of the layer that a node is: its first output that can take a precision, behind its activation."""
    return _activations(view, view.absorbed.get(node.name, node))[0]


def _groups(view: GraphView, sources: dict[str, str], fixed_ranges: bool) -> tuple[Group, ...]:
    found = []
    for root, tensors in view.members.items():
        own = [t for t in tensors if t in sources]
        layers = tuple(dict.fromkeys(sources[t] for t in own if sources[t]))
        makers = [view.producers[t] for t in own if t in view.producers]
        known = known_range(makers, own) if fixed_ranges else None
        steers = next((view.steering[t] for t in tensors if t in view.steering), "")
        found.append(Group(root, tuple(tensors), tuple(own), layers, known, steers))
    return tuple(found)


def known_range(makers: Sequence[NodeProto], sources: Sequence[str]) -> tuple[float, float] | None:
    """The range that the ``makers`` of all ``sources`` of a group cannot leave; None where one can, or has no maker."""
    fixed = [r for r in (row_of(m).fixed_range for m in makers) if r is not None]
    return (min(r[0] for r in fixed), max(r[1] for r in fixed)) if fixed and len(fixed) == len(sources) else None


def _layer(view: GraphView, node: NodeProto, known: Mapping[str, list[str]]) -> Layer:
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
        group=view.group[output],
        float_only=_float_only(view, node, output, inputs, bool(weights)),
    )


def _float_only(view: GraphView, node: NodeProto, output: str, inputs: tuple[str, ...], weighted: bool) -> str:
    """Why a layer must stay float32, or nothing.

    ``inputs``: the data that it reads; ``weighted``: it has weights, which may be quantized even where its result
    shares parameters with what steers an operator.
    """
    row = row_of(node)
    if row.kind in (Kind.FLOAT, Kind.SUBGRAPH):
        return row.note
    shared = view.members.get(view.group[output], ()) if not weighted else (output, *node.output)
    steered = [view.steering[t] for t in shared if t in view.steering]
    if steered:
        return steered[0]
    return "" if inputs else "it reads no activation"


def _sums(node: NodeProto, view: GraphView) -> bool:
    """Whether a node sums products with weights over an axis: what it gives are features."""
    row = row_of(node)
    if row.kind is not Kind.COMPUTE:
        return row.kind is Kind.FLOAT and Role.WEIGHT in row.inputs.roles
    count = macs(node, view.tensors, view.initializers)
    out = view.tensors.get(node.output[0])
    return count != operators.macs(Layout.NONE, {}, None, None, out.shape if out else None)


def _weights(view: GraphView, node: NodeProto, row: Operator) -> tuple[Weight, ...]:
    """The constants that are quantized with a layer."""
    computes = row.kind is Kind.COMPUTE or row.layout is Layout.RECURRENT
    roles = (Role.OPERAND, Role.WEIGHT) if computes else (Role.OPERAND,)
    found = []
    for i, name in enumerate(node.input):
        held = view.initializers.get(name)
        if (
            held is not None
            and held.data_type == TensorProto.FLOAT
            and (row.inputs[i] in roles or _is_table(node, held))
        ):
            shape = tuple(held.dims)
            axis = operators.weight_axis(row.layout, edit.attributes(node), i, len(shape))
            found.append(Weight(name, i, shape, axis))
    return tuple(found)


def _is_table(node: NodeProto, held: TensorProto) -> bool:
    """Whether an operator picks rows of a constant."""
    picks = row_of(node).layout is Layout.TABLE and node.input[0] == held.name
    return picks and len(held.dims) > 1 and edit.attribute(node, "axis", 0) == 0


def macs(node: NodeProto, tensors: Mapping[str, Tensor], initializers: Mapping[str, TensorProto]) -> int:
    """Multiply-accumulates of one sample; the number of output elements for operators without any."""

    def shape(name: str) -> tuple[int | str, ...] | None:
        if name in initializers:
            return tuple(initializers[name].dims)
        return tensors[name].shape if name in tensors else None

    weight = node.input[1] if len(node.input) > 1 and node.input[1] in initializers else ""
    left = node.input[0] if node.input else ""
    return operators.macs(row_of(node).layout, edit.attributes(node), shape(left), shape(weight), shape(node.output[0]))


def _homes(view: GraphView) -> dict[str, str]:
    """The layer that writes each tensor: its output, and what its activation reads."""
    found = {}
    for node in view.graph.node:
        if _is_layer(view, node):
            last = view.absorbed.get(node.name, node)
            found.update(dict.fromkeys([*_activations(view, node), last.output[0]], _layer_name(view, node)))
    return {tensor: layer for tensor, layer in found.items() if layer}
