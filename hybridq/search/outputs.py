"""What the graph says about its outputs: where a Concat joined them, and which parts are scores.

A *score* is what a Sigmoid or Softmax gives, moved around or multiplied with another: between 0 and 1, and a decision
hangs on it. Where scores and other values share positions (a detector's cells), the others count where a score speaks
up: nobody reads a box that holds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.joined import joined
from hybridq.graph.model import Model
from hybridq.graph.operators import Operator
from hybridq.graph.scores import is_score
from hybridq.quant.metrics import Parts

LEAST_PROBABILITY = 1e-3  # of a class: what is less likely decides nothing
EVERYWHERE = 0.1  # of the weight of an error lies on all positions alike, the rest where scores speak up


@dataclass(frozen=True)
class Layout:
    """An output's channel axis and, for stretches of it, whether they are scores. ``parts``: None without a Concat."""

    axis: int
    parts: Parts | None
    scores: tuple[tuple[int, int], ...]

    def scores_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The scores of an output's values."""
        return np.concatenate([np.take(values, range(a, b), self.axis) for a, b in self.scores], self.axis)

    def positions(self, shape: Sequence[int]) -> int:
        """Numbers a channel and sample."""
        return math.prod(shape[1:]) // shape[self.axis]


def layouts(model: Model) -> dict[str, Layout]:
    """Of every output with a known shape and a channel axis."""
    found = {}
    for name in model.outputs:
        tensor = model.tensors.get(name)
        shape = tensor.shape if tensor else None
        if not shape or len(shape) < 3 or not all(isinstance(d, int) and d for d in shape[1:]):
            continue
        behind = joined(name, model.producers, {n: t.shape for n, t in model.tensors.items()})
        sizes = [1, *(int(d) for d in shape[1:])]
        axis = behind[0] if behind else _channels(sizes)
        pieces = behind[1] if behind else [(name, sizes[axis])]
        starts = np.cumsum([0, *(size for _, size in pieces)]).tolist()
        scores = [(s, s + n) for s, (t, n) in zip(starts, pieces, strict=False) if is_score(t, model)]
        parts = Parts(axis, tuple(n for _, n in pieces)) if behind else None
        found[name] = Layout(axis, parts, tuple(scores))
    return found


def classifications(model: Model) -> frozenset[str]:
    """Outputs that are one Softmax over classes for the whole sample.

    Their noise is measured on ``log(p + LEAST_PROBABILITY)``: squares of probabilities speak of the two or three
    samples near a tie, logarithms of all samples and of every class that could win.
    """
    found = set()
    for name in model.outputs:
        tensor = model.tensors.get(name)
        shape = tensor.shape if tensor else None
        sizes = [d for d in (shape or ())[1:] if d != 1]
        if len(sizes) == 1 and is_score(name, model, _shares_one):
            found.add(name)
    return frozenset(found)


def _channels(shape: Sequence[int]) -> int:
    """The channel axis: the shorter one of three axes, else axis 1, or the last where only that is the odd one out."""
    if len(shape) == 3:
        return 1 if shape[1] <= shape[2] else 2
    return len(shape) - 1 if shape[1] == shape[2] != shape[-1] else 1


def _shares_one(row: Operator) -> bool:
    """Whether an operator's results along an axis sum to 1, as those of a Softmax do."""
    return row.makes_scores and row.axis is not None


def attention(
    found: Mapping[str, Layout], names: Sequence[str], outputs: Sequence[Sequence[NDArray[Any]]]
) -> list[dict[str, NDArray[np.float32]]]:
    """For each sample the weight of every element of the outputs that are no scores but share positions with some.

    Weights broadcast against the output and have a mean of about 1 over all samples; scores themselves weigh 1.
    """
    salience = _salience(found, names, outputs)
    result: list[dict[str, NDArray[np.float32]]] = []
    for s, sample in enumerate(outputs):
        weights = {}
        for name, values in zip(names, sample, strict=True):
            layout = found.get(name)
            count = layout.positions(values.shape) if layout and values.ndim > layout.axis else 0
            if layout is None or count not in salience or values.shape[0] != 1:
                continue
            shape = [1 if i in (0, layout.axis) else d for i, d in enumerate(values.shape)]
            here = salience[count][s].reshape(shape).astype(np.float32)
            full = np.repeat(here, values.shape[layout.axis], axis=layout.axis)
            for start, stop in layout.scores:
                full[(slice(None),) * layout.axis + (slice(start, stop),)] = 1.0
            if not (full == 1.0).all():
                weights[name] = full
        result.append(weights)
    return result


def _salience(
    found: Mapping[str, Layout], names: Sequence[str], outputs: Sequence[Sequence[NDArray[Any]]]
) -> dict[int, NDArray[np.float64]]:
    """By number of positions: how far the scores there are from what they usually are, (samples, positions)."""
    total: dict[int, NDArray[np.float64]] = {}
    for i, name in enumerate(names):
        layout = found.get(name)
        first = outputs[0][i]
        if layout is None or not layout.scores or len({o[i].shape for o in outputs}) > 1 or len(first) != 1:
            continue
        kept = np.concatenate([np.arange(a, b) for a, b in layout.scores])
        moved = np.stack([np.moveaxis(o[i], layout.axis, 1)[0].reshape(first.shape[layout.axis], -1) for o in outputs])
        scores = moved[:, kept].astype(np.float64)
        far = np.square(scores - np.median(scores, axis=(0, 2), keepdims=True)).max(axis=1)
        count = far.shape[1]
        if far.mean() > 0:
            total[count] = total.get(count, 0.0) + far / far.mean()
    return {k: EVERYWHERE + (1 - EVERYWHERE) * v / v.mean() for k, v in total.items()}
