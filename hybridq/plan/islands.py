"""Where float32 ends: elementwise layers between fixed neighbours go to the side on which they cost less time.

Layers with weights stay in 8 bits (but for convolutions of single channels, whose integer kernel is the slower one),
layers without a fast integer kernel in float32. What lies between is free, and
every boundary costs: a QuantizeLinear where integers read what float computed, a DequantizeLinear where float reads
integers, once a tensor however many read it. The cheapest division is a minimum cut. Where both sides cost the same,
float32 rounds once less: a Mul and an Add behind a float Div, a HardSwish written out, a LayerNorm's scale and shift.

Nanoseconds an element, ONNX Runtime 1.31 on a CPU with VNNI (``docs/onnxruntime.md``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from hybridq.graph import operators
from hybridq.graph.edit import attributes
from hybridq.graph.mincut import source_side
from hybridq.graph.model import Group, Layer, Model

QUANTIZE, DEQUANTIZE = 0.10, 0.20
LAYOUT = 0.20  # more, for pictures: integer convolutions and float operators keep them in different layouts
CHANNEL, LEVEL = 0.5, 32  # over the channels: a weight more in integers where each filter reads one; from here on none
ROUNDING = 0.05  # what it is worth not to round a tensor
OUTPUT = 1.0  # more, of an output that integers read, too: no later layer averages its rounding away
OUTSIDE = ""  # the node that stands for whoever reads the model's outputs
NEVER = 1e6  # of the largest sum: a division that is not allowed


def float_side(model: Model, floats: Collection[str], free: Collection[str]) -> set[str]:
    """Names of the ``free`` groups that belong in float32 where the groups ``floats`` are; the others are integers."""
    if not free:
        return set()
    cut = _Cut(model, floats, free)
    for group in model.groups:
        cut.add(group)
    return cut.floats()


def one_channel(model: Model, layer: Layer) -> bool:
    """Whether a layer is a convolution each of whose filters reads one channel and is alone in it."""
    weight = layer.weights[0].shape if layer.weights else None
    layout = operators.lookup(layer.op).layout
    return operators.reads_one_channel(layout, attributes(model.nodes[layer.node]), weight)


def float_saves(model: Model, layer: Layer) -> float:
    """Nanoseconds that computing a layer in float32 saves, its one rounding less counted."""
    each = operators.lookup(layer.op).saves
    if one_channel(model, layer):
        channels, *window = layer.weights[0].shape
        each = CHANNEL / channels * math.prod(window) if channels < LEVEL else 0.0
    return (each + ROUNDING) * elements(model, layer.name)


def elements(model: Model, tensor: str) -> int:
    """The number of a tensor's elements; dynamic axes count as 1."""
    held = model.tensors.get(tensor)
    return math.prod(d if isinstance(d, int) else 1 for d in (held.shape or ())) if held else 1


@dataclass
class _Cut:
    """The graph of the minimum cut: a node a group, and two more for what a group's boundary costs once."""

    model: Model
    fixed: Collection[str]
    free: Collection[str]
    value: dict[str, float] = field(default_factory=dict)
    pairs: list[tuple[str, str, float]] = field(default_factory=list)  # costs where the first is float, the second not

    def add(self, group: Group) -> None:
        """A group, what computing it in float saves, and the boundaries to its readers."""
        if group.name in self.fixed or not (group.layers or group.name in self.model.inputs):
            self.value[group.name] = NEVER
        elif group.name in self.free:
            saves = sum(float_saves(self.model, self.model.layer[n]) for n in group.layers)
            self.value[group.name] = saves + OUTPUT * sum(elements(self.model, t) for t in self._outputs(group))
        elif group.name in self.model.inputs:
            self.value[group.name] = NEVER  # an input is float as it comes
        else:
            self.value[group.name] = -NEVER
        readers = {x.group for x in self.model.readers.get(group.name, ())} - {group.name}
        if self._leaves(group):
            self.value[OUTSIDE] = NEVER
            readers.add(OUTSIDE)
        self._boundary(group, readers)

    def _outputs(self, group: Group) -> list[str]:
        return [t for t in group.tensors if t in self.model.outputs]

    def _leaves(self, group: Group) -> bool:
        """Whether something reads a group in float that is no layer: the caller, an operator without a precision."""
        inside = {*group.tensors, ""}
        readers = [n for t in group.tensors for n in self.model.consumers.get(t, ())]
        others = (n for n in readers if n.name not in self.model.layer_of and not inside.issuperset(n.output))
        return bool(self._outputs(group)) or any(others)

    def _boundary(self, group: Group, readers: set[str]) -> None:
        quantize, dequantize = self._costs(group)
        for reader in readers:
            self.pairs.append((f"{group.name}>", reader, NEVER))
            self.pairs.append((reader, f">{group.name}", NEVER))
        self.pairs.append((group.name, f"{group.name}>", quantize))  # an integer reader of a float tensor
        self.pairs.append((f">{group.name}", group.name, dequantize))  # a float reader of integers

    def _costs(self, group: Group) -> tuple[float, float]:
        """What a boundary behind a group costs; matrix products give their result in float for nothing."""
        size = sum(elements(self.model, t) for t in group.sources)
        rank = max(
            (len(self.model.tensors[t].shape or ()) for t in group.sources if t in self.model.tensors), default=0
        )
        layout = LAYOUT if rank == 4 else 0.0
        products = group.layers and all(operators.lookup(self.model.layer[n].op).float_result for n in group.layers)
        return (QUANTIZE + layout) * size, 0.0 if products else (DEQUANTIZE + layout) * size

    def floats(self) -> set[str]:
        """The free groups on the float side of the cheapest cut."""
        names = list(dict.fromkeys([*self.value, *(n for a, b, _ in self.pairs for n in (a, b))]))
        place = {n: i for i, n in enumerate(names)}
        scale = max(1.0, sum(abs(v) for v in self._finite()))
        value = np.array([self._scaled(self.value.get(n, 0.0), scale) for n in names])
        weight = np.array([self._scaled(w, scale) for *_, w in self.pairs])
        first = np.array([place[a] for a, *_ in self.pairs], np.int64)
        second = np.array([place[b] for _, b, _ in self.pairs], np.int64)
        side = source_side(len(names), value, first, second, weight, np.zeros(len(weight)))
        return {n for n in self.free if side[place[n]]}

    def _finite(self) -> Iterator[float]:
        yield from (v for v in self.value.values() if abs(v) != NEVER)
        yield from (w for *_, w in self.pairs if w != NEVER)

    def _scaled(self, value: float, scale: float) -> float:
        return math.copysign(NEVER, value) if abs(value) == NEVER else value / scale
