"""The parts of a cfg as they stand, each with its place; ``schema`` says which of them are wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from hybridq.config.write import LAYERS, PARAMETERS, SEPARATE
from hybridq.config.yaml.nodes import Mapping, Node, Pair, Scalar, Sequence

LAYERS_ALIAS = "custom_quantize_layers"  # RKNN-Toolkit2's spelling
Path = tuple[str | int, ...]  # the keys and indices that lead to a node, as JSON Schema gives them


@dataclass
class Document:
    """The top mapping, and the nodes in it that the schema refuses, by their path."""

    top: Mapping
    wrong: set[Path] = field(default_factory=set)
    _names: dict[int, dict[str, Pair]] = field(default_factory=dict)

    def names(self, mapping: Mapping) -> dict[str, Pair]:
        """The pairs of a mapping by name; the first of two alike (the reader has told of the second)."""
        if id(mapping) not in self._names:
            self._names[id(mapping)] = {p.key.text: p for p in reversed(mapping.pairs)}
            self._names[id(mapping)] = dict(reversed(self._names[id(mapping)].items()))
        return self._names[id(mapping)]

    def locate(self, path: Path) -> tuple[Scalar, Node]:
        """The last key on the way to a node, and the node."""
        key, found = Scalar("", 1, 1, 2), cast(Node, self.top)
        for step in path:
            if isinstance(found, Mapping):
                key, found = self.names(found)[str(step)]
            elif isinstance(found, Sequence) and isinstance(step, int):
                found = found.items[step]
        return key, found

    def pair(self, *names: str) -> Pair | None:
        """The first pair of a top key."""
        return next((p for p in self.top.pairs if p.key.text in names), None)

    @property
    def layers_pair(self) -> Pair | None:
        """``customized_quantize_layers``, in whichever spelling."""
        return self.pair(LAYERS, LAYERS_ALIAS)

    @property
    def entries_pair(self) -> Pair | None:
        """``quantize_parameters``."""
        return self.pair(PARAMETERS)

    @cached_property
    def layers(self) -> list[Pair]:
        """Selectors and what they ask for, a refused value among them. A key's repetition is left out."""
        return self._below(self.layers_pair)

    @cached_property
    def entries(self) -> list[tuple[Scalar, Mapping]]:
        """Tensors with their fields. A key's repetition is left out."""
        return [(key, value) for key, value in self._below(self.entries_pair) if isinstance(value, Mapping)]

    @property
    def separate(self) -> list[Scalar]:
        """The names in ``separate_concats``."""
        pair = self.pair(SEPARATE)
        items = pair.value.items if pair and isinstance(pair.value, Sequence) else []
        return [item for item in items if isinstance(item, Scalar)]

    def text(self, *path: str) -> Scalar | None:
        """The scalar at a path; None where there is none, or a refused one."""
        if path in self.wrong or path[:1] in self.wrong:
            return None
        found: Node | None = self.top
        for name in path:
            pair = self.names(found).get(name) if isinstance(found, Mapping) else None
            found = pair.value if pair else None
        return found if isinstance(found, Scalar) else None

    def is_wrong_layer(self, key: str) -> bool:
        """Whether the schema refuses what a selector asks for."""
        return self.layers_pair is not None and (self.layers_pair.key.text, key) in self.wrong

    def is_wrong_field(self, key: str, name: str) -> bool:
        """Whether the schema refuses a field of an entry, or its value."""
        return (PARAMETERS, key, name) in self.wrong

    def _below(self, pair: Pair | None) -> list[Pair]:
        return list(self.names(pair.value).values()) if pair and isinstance(pair.value, Mapping) else []
