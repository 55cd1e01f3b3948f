"""Small models with samples for tests of the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from helpers_graphs import given
from random_graphs import Case, make_case

from hybridq.graph import runtime
from hybridq.graph.model import Model
from hybridq.search.measuring.damage import measure_reference, objective, one_row

Array = np.ndarray[Any, Any]
Feeds = list[dict[str, Array]]


def small_model(seed: int, layers: int = 5) -> onnx.ModelProto:
    """A chain of convolutions, some with a wild channel that 8 bits serve badly."""
    random = np.random.default_rng(seed)
    nodes: list[tuple[Any, ...]] = []
    tensors: dict[str, np.ndarray] = {}
    name = "x"
    for i in range(layers):
        weight = random.normal(size=(8, 8, 3, 3), scale=1 / np.sqrt(72))
        if random.random() < 0.5:
            weight[int(random.integers(8))] *= random.uniform(5, 40)
        tensors[f"w{i}"], tensors[f"b{i}"] = weight.astype(np.float32), random.normal(size=8).astype(np.float32)
        nodes.append(("Conv", f"{name} w{i} b{i}", f"c{i}", {"pads": [1] * 4}))
        nodes.append(("LeakyRelu", f"c{i}", f"r{i}", {"alpha": 0.1}))
        name = f"r{i}" if i < layers - 1 else f"c{i}"
    if name.startswith("c"):
        nodes.pop()
    return given(nodes, tensors, [name], (1, 8, 8, 8))


def feeds_of(seed: int, count: int = 4) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed + 99)
    return [{"x": random.normal(size=(1, 8, 8, 8)).astype(np.float32)} for _ in range(count)]


def small_case(seed: int, layers: int = 5) -> tuple[Case, list[dict[str, np.ndarray]]]:
    feeds = feeds_of(seed)
    whole = {"x": np.concatenate([f["x"] for f in feeds])}
    model = small_model(seed, layers)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "n"
    return make_case(model, whole), feeds


def damages(path: Path, model: Model, built: list[Path], feeds: Feeds) -> list[float]:
    """Of each built model, weighed by the first."""
    reference = measure_reference(runtime.session(path, threads=1), feeds, model)

    def noise(one: Path) -> Array:
        session = runtime.session(one, threads=1)
        outputs = [runtime.run(session, feed, list(reference.names)) for feed in feeds]
        return np.stack([reference.noise(i, [one_row(x) for x in o])[0] for i, o in enumerate(outputs)])

    found = [noise(one) for one in built]
    aim = objective(reference, found[0])
    return [float(sum(aim.of(i, row[None])[0] for i, row in enumerate(rows))) for rows in found]
