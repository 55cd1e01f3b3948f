"""See inside the float model: any of its tensors, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed, expose, run, session
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights

Array = NDArray[Any]


def observer(
    model: Model, weights: Weights, tensors: Iterable[str], *, threads: int = 0
) -> Callable[[Feed], dict[str, Array]]:
    """A function that runs the model on a feed and gives the values of ``tensors`` (model inputs may be among them)."""
    inputs = {i.name for i in model.proto.graph.input}
    names = [t for t in dict.fromkeys(tensors) if t not in inputs]
    proto = assemble(model.proto, weights)
    expose(proto, names)
    one = session(proto, threads=threads)

    def observe(feed: Feed) -> dict[str, Array]:
        found = dict(zip(names, run(one, feed, names), strict=True)) if names else {}
        return {**{k: np.asarray(v) for k, v in feed.items()}, **found}

    return observe
