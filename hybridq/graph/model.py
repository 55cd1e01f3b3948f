"""``Model``, ``Layer``, ``Tensor``, ``Group``: our view of the canonical float graph, no weights inside.

A *layer* is one compute node with the activation it absorbs, named by its output tensor after that activation. A
*group* is a set of float tensors joined by data movement (Reshape, Concat, MaxPool, ...): they share one
set of quantization parameters. Every float tensor that a precision can apply to is in exactly one group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx

from hybridq.graph import edit
from hybridq.graph.operators import row_of


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value that flows along an edge. ``shape`` holds ints, or names for dynamic axes; None when unknown."""

    name: str
    shape: tuple[int | str, ...] | None
    dtype: str


@dataclass(frozen=True, slots=True)
class Weight:
    """An initializer that a layer computes with. ``axis`` is its output-channel axis, None if it has none."""

    tensor: str
    index: int
    shape: tuple[int, ...]
    axis: int | None


@dataclass(frozen=True, slots=True)
class Layer:
    """What a user can give a precision.

    ``name`` is the output tensor after the activation; ``node`` and ``activation`` name the nodes in the graph;
    ``inputs`` are the float activation tensors it reads as data (no initializers, no parameters), in order;
    ``weights`` its float initializers (the bias apart); ``float_only`` is the reason why it must stay float32, or "".
    """

    name: str
    op: str
    node: str
    activation: str
    activation_op: str
    inputs: tuple[str, ...]
    weights: tuple[Weight, ...]
    bias: str
    aliases: tuple[str, ...]
    macs: int
    group: str
    float_only: str = ""

    @property
    def numbers(self) -> int:
        """How many its weights hold."""
        return sum(math.prod(w.shape) for w in self.weights)


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that share parameters. ``name`` is the tensor that stands for them in the cfg.

    ``sources`` are the tensors where values enter (layer outputs, model inputs); the others only move them.
    ``layers`` are the names of the layers that write a source. ``fixed`` is the range known without measuring,
    ``float_only`` the reason why the tensors are never quantized, or empty.
    """

    name: str
    tensors: tuple[str, ...]
    sources: tuple[str, ...]
    layers: tuple[str, ...]
    fixed: tuple[float, float] | None = None
    float_only: str = ""


@dataclass(frozen=True)
class Model:
    """The canonical graph and our view of it. ``proto`` has every initializer's name and shape but no data.

    ``states`` of a recurrent model: inputs, and the output of the step before that each of them takes.
    """

    name: str
    sha256: str
    proto: onnx.ModelProto
    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: Mapping[str, str] = field(default_factory=dict)

    @property
    def answers(self) -> tuple[str, ...]:
        """The outputs that are no states; all, where there is no other."""
        states = set(self.states.values())
        return tuple(o for o in self.outputs if o not in states) or self.outputs

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of all layers together (output elements of those without any)."""
        return sum(x.macs for x in self.layers)

    @cached_property
    def layer(self) -> dict[str, Layer]:
        """Layers by name."""
        return {x.name: x for x in self.layers}

    @cached_property
    def group(self) -> dict[str, Group]:
        """Groups by name."""
        return {g.name: g for g in self.groups}

    @cached_property
    def group_of(self) -> dict[str, Group]:
        """The group of every tensor that has one."""
        return {t: g for g in self.groups for t in g.tensors}

    @cached_property
    def nodes(self) -> dict[str, onnx.NodeProto]:
        """Nodes by name."""
        return {n.name: n for n in self.proto.graph.node}

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of every node in the graph, by the node's name."""
        return {n.name: place for place, n in enumerate(self.proto.graph.node)}

    @cached_property
    def layer_of(self) -> dict[str, Layer]:
        """The layer of every compute node, by the node's name."""
        return {x.node: x for x in self.layers}

    @cached_property
    def owner_of(self) -> dict[str, Layer]:
        """The layer of every compute node and of every activation that a layer absorbs, by the node's name."""
        return {**self.layer_of, **{x.activation: x for x in self.layers if x.activation}}

    @cached_property
    def readers(self) -> dict[str, tuple[Layer, ...]]:
        """The layers that read each group, by the group's name, in graph order; groups that none reads are absent."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for name in dict.fromkeys(self.group_of[i].name for i in layer.inputs if i in self.group_of):
                found.setdefault(name, []).append(layer)
        return {name: tuple(layers) for name, layers in found.items()}

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """Initializers by name; only small ones hold values."""
        return {t.name: t for t in self.proto.graph.initializer}

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that writes each tensor."""
        return edit.producers(self.proto.graph.node)

    @cached_property
    def consumers(self) -> dict[str, tuple[onnx.NodeProto, ...]]:
        """The nodes that read each tensor, themselves or in a subgraph, in graph order."""
        return edit.consumers(self.proto.graph.node)

    @cached_property
    def may_be_empty(self) -> frozenset[str]:
        """Tensors whose size hangs on values: what NonZero or NonMaxSuppression find, and all that follows from it."""
        found: set[str] = set()
        for node in self.proto.graph.node:
            if row_of(node).counts or any(name in found for name in edit.reads(node)):
                found.update(o for o in node.output if o)
        return frozenset(found)

    @cached_property
    def names(self) -> dict[str, str]:
        """Every name a layer goes by (its own, aliases) to the layer's name."""
        found = {alias: x.name for x in self.layers for alias in x.aliases}
        found.update({x.name: x.name for x in self.layers})
        return found
