"""Names to layers, tensors and entries: everything that a person may call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.operators import Kind, row_of
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated, Entry


def defaults_of(model: Model, calibrated: Calibrated) -> dict[str, Precision]:
    """The precision of every layer that nobody asks to change."""
    return {x.name: calibrated.default_of(x.name) for x in model.layers}


@dataclass(frozen=True)
class Names:
    """The names of one model, and the keys of its entries."""

    model: Model
    entries: Mapping[str, Entry]

    def layers(self, name: str) -> tuple[str, ...]:
        """The layers that an exact name stands for: one, or all of a group named by a tensor that only moves values.

        A tensor that joins groups which keep parameters of their own stands for the layers of all of them.
        """
        layer = self.model.names.get(name)
        if layer:
            return (layer,)
        group = self.model.group_of.get(name) or self.moved.get(name)
        return group.layers if group else self.joined.get(name, ())

    def key(self, name: str) -> str:
        """The key of the entry that ``name`` stands for; empty if there is none."""
        if name in self.entries:
            return name
        key = self.weight_keys.get(name)
        if key is None and name.endswith(WEIGHT_SUFFIX):
            key = self.model.names.get(name.removesuffix(WEIGHT_SUFFIX), "") + WEIGHT_SUFFIX
        if key is None:
            layer = self.model.names.get(name)
            group = self.model.group_of.get(name) or self.moved.get(name)
            key = self.model.layer[layer].group if layer else group.name if group else ""
        return key if key in self.entries else ""

    def key_layers(self, key: str) -> tuple[Layer, ...]:
        """The layers whose output or weight the entry ``key`` describes."""
        group = self.model.group.get(key)
        if group:
            return tuple(self.model.layer[x] for x in group.layers)
        layer = self.model.layer.get(key.removesuffix(WEIGHT_SUFFIX))
        return (layer,) if layer else ()

    def is_weight(self, key: str) -> bool:
        """Whether an entry's key names a weight."""
        return key.endswith(WEIGHT_SUFFIX) and key not in self.model.group

    @cached_property
    def weight_keys(self) -> dict[str, str]:
        """Entry keys by the initializer's name."""
        return {w.tensor: x.name + WEIGHT_SUFFIX for x in self.model.layers for w in x.weights}

    @cached_property
    def moved(self) -> dict[str, Group]:
        """Groups by the names of the nodes that only move their values."""
        groups = self.model.group_of
        return {n.name: groups[o] for n in self.model.proto.graph.node if n.name for o in n.output if o in groups}

    @cached_property
    def joined(self) -> dict[str, tuple[str, ...]]:
        """Layers by the tensors, and the nodes, that join what they compute and belong to no group themselves."""
        found: dict[str, tuple[str, ...]] = {}
        for node in self.model.proto.graph.node:
            apart = [o for o in node.output if o and o not in self.model.group_of]
            if apart and row_of(node).kind is Kind.MOVEMENT:
                read = node.input if row_of(node).moves_all else node.input[:1]
                layers = tuple(dict.fromkeys(n for i in read for n in found.get(i) or self._computing(i)))
                found.update(dict.fromkeys([*apart, *([node.name] if node.name else [])], layers))
        return found

    def _computing(self, tensor: str) -> tuple[str, ...]:
        layer, group = self.model.names.get(tensor), self.model.group_of.get(tensor)
        return (layer,) if layer else group.layers if group else ()

    @cached_property
    def known(self) -> list[str]:
        """Every name a layer or tensor goes by."""
        return [*dict.fromkeys([*self.model.layer, *self.model.group_of, *self.model.names])]

    @cached_property
    def known_keys(self) -> list[str]:
        """Every name an entry goes by."""
        return [*dict.fromkeys([*self.entries, *self.model.group_of, *self.model.names])]
