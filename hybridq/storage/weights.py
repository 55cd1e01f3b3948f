"""``Weights``: a model's initializers, and beside them what was made of some so that 8 bits harm less."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto

from hybridq.graph.outside import Mapped

Tensors = Mapping[str, NDArray[Any]]


def size_of(weights: Tensors) -> int:
    """Bytes of all tensors together."""
    return sum(w.nbytes for w in weights.values())


@dataclass(frozen=True, eq=False)
class Weights(Mapping[str, NDArray[Any]]):
    """A mapping of initializers by name, any shape and type, which may be memory-mapped.

    ``biases`` are repaired biases by layer, shaped as the given ones. ``rounded`` are the integers of layers whose
    weights were rounded together, by layer, shaped as the weights and of the type that stores them.
    """

    initializers: Tensors
    biases: Tensors = field(default_factory=dict)
    rounded: Tensors = field(default_factory=dict)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.initializers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.initializers)

    def __len__(self) -> int:
        return len(self.initializers)

    def changed(self, initializers: Tensors) -> Weights:
        """With other values for some initializers."""
        return replace(self, initializers=ChainMap(dict(initializers), self.initializers))  # type: ignore[arg-type]

    def lying(self, name: str) -> TensorProto | None:
        """The initializer of this name as it lies in a file; None where it does not."""
        held = self.initializers
        while isinstance(held, ChainMap):
            held = next((m for m in held.maps if name in m), {})
        return held.lying(name) if isinstance(held, Mapped) else None

    def repaired(self, *, biases: Tensors | None = None, rounded: Tensors | None = None) -> Weights:
        """With more repaired biases and more layers rounded together."""
        return replace(self, biases={**self.biases, **(biases or {})}, rounded={**self.rounded, **(rounded or {})})

    def plain(self) -> Weights:
        """The initializers alone."""
        return Weights(self.initializers)
