"""Layers in portions whose measurements fit into memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hybridq.graph.model import Layer


def portions(layers: Iterable[Layer], size: Callable[[Layer], int], most: int) -> Iterator[list[Layer]]:
    """Runs of layers whose sizes sum to at most ``most``; one layer that is larger stands alone."""
    held: list[Layer] = []
    together = 0
    for layer in layers:
        own = size(layer)
        if held and together + own > most:
            yield held
            held, together = [], 0
        held.append(layer)
        together += own
    if held:
        yield held
