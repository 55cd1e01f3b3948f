"""See inside the float model: any of its tensors, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, expose, session
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights

Array = NDArray[Any]


def observer(
    model: Model, weights: Weights, tensors: Iterable[str], *, threads: int = 0
) -> Callable[[Feed], dict[str, Array]]:
    """A function that runs the model on a feed and gives the values of ``tensors`` (model inputs may be among them).

    Feeds that lack the states of a recurrent model go on with those of the feed before.
    """
    inputs = {i.name for i in model.proto.graph.input}
    names = [t for t in dict.fromkeys(tensors) if t not in inputs]
    proto = assemble(model.proto, weights)
    expose(proto, names)
    rolled = Rolled(session(proto, threads=threads), model.states)

    def observe(given: Feed) -> dict[str, Array]:
        feed = rolled.whole(given)
        found = dict(zip(names, rolled.run(feed, names), strict=True)) if names or model.states else {}
        return {**{k: np.asarray(v) for k, v in feed.items()}, **found}

    return observe
