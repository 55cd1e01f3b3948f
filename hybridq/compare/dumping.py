"""What `step3 --dump` writes: the tensors of one sample in RKNN-Toolkit 1's folders, each as soon as it is known.

``fp32/``, ``entire_qnt/`` and ``individual_qnt/`` have a file a layer, ``OP_NODE_N_out0_nchw_1_8_16_16.npy``, values in
the layout of the model; ``dump_data_distribute/`` has counts of weights, biases and outputs as tables, ``order.txt``
the files in the order of the graph. The first three are read back by `step3 --board`, as the toolkit's are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.model import Layer, Model
from hybridq.storage.weights import Weights

FLOAT, ENTIRE, ALONE, SPREAD = "fp32", "entire_qnt", "individual_qnt", "dump_data_distribute"
BINS = 64
ODD = re.compile(r"[^\w.-]+")  # what a file's name is spared
LONGEST = 120  # of a name


@dataclass
class Dumper:
    """Writes the first sample's tensors below ``folder``; holds none of them."""

    folder: Path
    model: Model
    weights: Weights
    written: dict[str, set[str]] = field(default_factory=dict)
    numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = {x.name: i for i, x in enumerate(self.model.layers)}

    def start(self) -> None:
        """Make the folders, the order, and the counts of weights and biases."""
        for name in (FLOAT, ENTIRE, ALONE, SPREAD):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        stems = [_stem(number, layer, self.model) for number, layer in enumerate(self.model.layers)]
        (self.folder / SPREAD / "order.txt").write_text("".join(f"{s}\n" for s in stems), encoding="utf-8")
        for number, layer in enumerate(self.model.layers):
            for kind, tensor in (*(("weight", w.tensor) for w in layer.weights), ("bias", layer.bias)):
                if tensor:
                    self._spread(number, layer, kind, self.weights[tensor])

    def add(self, kind: str, name: str, values: NDArray[Any]) -> None:
        """One layer's values: as float computes them, within the hybrid model, or as the only quantized layer."""
        known = self.written.setdefault(kind, set())
        if name in known or name not in self.model.layer or values.dtype.kind not in "fiub":
            return
        known.add(name)
        layer = self.model.layer[name]
        number = self.numbers[name]
        shape = "_".join(map(str, values.shape)) or "1"
        path = self.folder / kind / f"{_stem(number, layer, self.model)}_out0_nchw_{shape}.npy"
        np.save(path, np.ascontiguousarray(values))
        if kind == FLOAT:
            self._spread(number, layer, "out0", values)

    def _spread(self, number: int, layer: Layer, what: str, values: NDArray[Any]) -> None:
        """Counts in equal bins between the smallest and the largest value: ``from to count`` a line."""
        finite = values[np.isfinite(values)].astype(np.float64)
        ends = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        counts, edges = np.histogram(finite, BINS, ends if ends[0] < ends[1] else (ends[0] - 0.5, ends[0] + 0.5))
        rows = (f"{a:.7g} {b:.7g} {n}\n" for a, b, n in zip(edges, edges[1:], counts, strict=False))
        path = self.folder / SPREAD / f"{_stem(number, layer, self.model)}_{what}.txt"
        path.write_text("".join(rows), encoding="utf-8")


def _stem(number: int, layer: Layer, model: Model) -> str:
    """A layer's files: its last operator, that node's name, its place."""
    node = model.nodes[layer.activation or layer.node]
    return f"{ODD.sub('_', f'{node.op_type}_{node.name}')[:LONGEST]}_{number}"
