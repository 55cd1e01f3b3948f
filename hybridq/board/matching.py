"""Which of a dump's tensors is which layer's: toolkits keep a tensor's name, or its node's, and change some signs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hybridq.graph.model import Layer, Model

SIGNS = re.compile(r"[\W_]+")


def matched(model: Model, names: Iterable[str]) -> dict[str, str]:
    """Layers to names of a dump, the surest first; a name goes to one layer only.

    In order: the layer's own tensor, the operator's type and its node's name (RKNN-Toolkit 1), other names of the same
    value; then the same with every sign between letters and digits taken for one.
    """
    known = list(names)
    plain: dict[str, str] = {}
    for name in known:
        plain.setdefault(_plain(name), name)
    exact = {name: name for name in known}
    found: dict[str, str] = {}
    taken: set[str] = set()
    rounds = [[(x, name) for x in model.layers for name in names_of(x)] for names_of in (_own, _nodes, _others)]
    for table, form in ((exact, str), (plain, _plain)):
        for candidates in rounds:
            for layer, name in candidates:
                hit = table.get(form(name), "")
                if hit and hit not in taken and layer.name not in found:
                    found[layer.name] = hit
                    taken.add(hit)
    return {x.name: found[x.name] for x in model.layers if x.name in found}


def matched_inputs(model: Model, names: Iterable[str]) -> dict[str, str]:
    """Model inputs to names of a dump."""
    plain = {_plain(name): name for name in names}
    return {name: plain[_plain(name)] for name in model.inputs if _plain(name) in plain}


def _own(layer: Layer) -> Iterator[str]:
    yield layer.name


def _nodes(layer: Layer) -> Iterator[str]:
    last = layer.activation or layer.node
    op = layer.activation_op or layer.op
    for alias in (last, *layer.aliases):
        yield f"{op}_{alias}"


def _others(layer: Layer) -> Iterator[str]:
    """Names of the value behind the absorbed activation: of a layer without one, all of its names."""
    if not layer.activation:
        yield from layer.aliases
    yield f"{layer.name}_int8"  # an end of the model as RKNN-Toolkit2 stores it


def _plain(name: str) -> str:
    return SIGNS.sub("_", name).strip("_")
