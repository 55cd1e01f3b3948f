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
LOUD = 0.1  # the highest score at a typical position: one that speaks up there says nothing by itself
TINY = float(np.finfo(np.float32).tiny)
EVERYWHERE = 0.1  # of the weight of an error lies on all positions alike, the rest where scores speak up


@dataclass(frozen=True)
class OutputLayout:
    """An output's channel axis and, for stretches of it, whether they are scores. ``parts``: None without a Concat."""

    axis: int
    parts: Parts | None
    scores: tuple[tuple[int, int], ...]

    def scores_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The scores of an output's values."""
        return np.concatenate([np.take(values, range(a, b), self.axis) for a, b in self.scores], self.axis)

    def are_scores(self, cut: int, start: int, stop: int, shape: Sequence[int]) -> bool:
        """Whether all values of an output of ``shape`` in ``[start, stop)`` along axis ``cut`` (-1: all) are scores."""
        if cut != self.axis:
            start, stop = 0, shape[self.axis]
        covered = sum(max(0, min(b, stop) - max(a, start)) for a, b in self.scores)
        return 0 < covered == stop - start

    def positions(self, shape: Sequence[int]) -> int:
        """Numbers a channel and sample."""
        return math.prod(shape[1:]) // shape[self.axis]


def layouts(model: Model, seen: Mapping[str, Sequence[int]] | None = None) -> dict[str, OutputLayout]:
    """Of every output with a known shape and a channel axis; ``seen``: shapes that samples gave, batch first."""
    found = {}
    for name in model.outputs:
        tensor = model.tensors.get(name)
        shape = (seen or {}).get(name) or (tensor.shape if tensor else None)
        if not shape or len(shape) < 3 or not all(isinstance(d, int) and d for d in shape[1:]):
            continue
        behind = joined(name, model.producers, {n: t.shape for n, t in model.tensors.items()})
        sizes = [1, *(int(d) for d in shape[1:])]
        axis = behind[0] if behind else _channels(sizes)
        pieces = behind[1] if behind else [(name, sizes[axis])]
        starts = np.cumsum([0, *(size for _, size in pieces)]).tolist()
        scores = [(s, s + n) for s, (t, n) in zip(starts, pieces, strict=False) if is_score(t, model)]
        parts = Parts(axis, tuple(n for _, n in pieces)) if behind else None
        found[name] = OutputLayout(axis, parts, tuple(scores))
    return found


def classifications(model: Model) -> frozenset[str]:
    """Outputs that are one Softmax over classes for the whole sample; where all outputs are Softmaxes, each of them.

    Those are read at every position (characters of a line, pixels of a picture). Beside other outputs such scores
    belong to boxes, and are read as a detector's.

    Their noise is measured on ``log(p + LEAST_PROBABILITY)``: squares of probabilities speak of the two or three
    samples near a tie, logarithms of all samples and of every class that could win.
    """
    found = {n for n in model.outputs if is_score(n, model, _shares_one)}
    return frozenset(found if found == set(model.outputs) else {n for n in found if _is_whole(model, n)})


def _is_whole(model: Model, name: str) -> bool:
    """Whether an output is known to be one row of numbers for the whole sample."""
    tensor = model.tensors.get(name)
    shape = tensor.shape if tensor else None
    return len([d for d in (shape or ())[1:] if d != 1]) == 1


def likelihood(probabilities: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """How much each probability of a classification by position counts, sample by sample: half alike, half by itself.

    With a mean of 1. Of thousands of classes most are likely nowhere, and only those that are can be taken for another.
    """
    mean = max(float(np.mean([np.mean(p, dtype=np.float64) for p in probabilities])), TINY)
    return [np.asarray(0.5 + 0.5 * np.maximum(p, 0.0) / mean, np.float32) for p in probabilities]


def _channels(shape: Sequence[int]) -> int:
    """The channel axis: the shorter one of three axes, else axis 1, or the last where only that is the odd one out."""
    if len(shape) == 3:
        return 1 if shape[1] <= shape[2] else 2
    return len(shape) - 1 if shape[1] == shape[2] != shape[-1] else 1


def _shares_one(row: Operator) -> bool:
    """Whether an operator's results along an axis sum to 1, as those of a Softmax do."""
    return row.makes_scores and row.axis is not None


@dataclass(frozen=True)
class _Spoken:
    """What the scores in one stretch of an output say at each position, over all samples.

    ``far``, (samples, positions), is the square of how far they are from what they usually are, with a mean of 1.
    ``loud``: they speak up at most positions, so by themselves they decide nothing.
    """

    name: str
    stretch: tuple[int, int]
    far: NDArray[np.float64]
    loud: bool


def attention(
    found: Mapping[str, OutputLayout], names: Sequence[str], outputs: Sequence[Sequence[NDArray[Any]]]
) -> list[dict[str, NDArray[np.float32]]]:
    """For each sample the weight of every element of the outputs that are read only where scores speak up.

    These are values that share positions with scores, and scores that are high nearly everywhere beside others that
    are not (a class that was learned where something is, beside the score that something is there). Weights broadcast
    against the output and have a mean of about 1 over all samples; other scores weigh 1.
    """
    spoken = _spoken(found, names, outputs)
    read = {count: _salience([s for s in held if not s.loud] or held) for count, held in spoken.items()}
    result: list[dict[str, NDArray[np.float32]]] = []
    for s, sample in enumerate(outputs):
        weights = {}
        for name, values in zip(names, sample, strict=True):
            layout = found.get(name)
            count = layout.positions(values.shape) if layout and values.ndim > layout.axis else 0
            if layout is None or count not in read or values.shape[0] != 1:
                continue
            shape = [1 if i in (0, layout.axis) else d for i, d in enumerate(values.shape)]
            here = read[count][s].reshape(shape).astype(np.float32)
            full = np.repeat(here, values.shape[layout.axis], axis=layout.axis)
            for start, stop in _by_themselves(layout, name, spoken[count]):
                full[(slice(None),) * layout.axis + (slice(start, stop),)] = 1.0
            if not (full == 1.0).all():
                weights[name] = full
        result.append(weights)
    return result


def _by_themselves(layout: OutputLayout, name: str, spoken: Sequence[_Spoken]) -> list[tuple[int, int]]:
    """The stretches of an output whose scores are read at every position."""
    gated = {s.stretch for s in spoken if s.loud and s.name == name} if any(not s.loud for s in spoken) else set()
    return [stretch for stretch in layout.scores if stretch not in gated]


def _spoken(
    found: Mapping[str, OutputLayout], names: Sequence[str], outputs: Sequence[Sequence[NDArray[Any]]]
) -> dict[int, list[_Spoken]]:
    """By number of positions: the scores there."""
    held: dict[int, list[_Spoken]] = {}
    for i, name in enumerate(names):
        layout = found.get(name)
        first = outputs[0][i]
        if layout is None or len({o[i].shape for o in outputs}) > 1 or len(first) != 1:
            continue
        moved = np.stack([np.moveaxis(o[i], layout.axis, 1)[0].reshape(first.shape[layout.axis], -1) for o in outputs])
        for start, stop in layout.scores:
            scores = moved[:, start:stop].astype(np.float64)
            far = np.square(scores - np.median(scores, axis=(0, 2), keepdims=True)).max(axis=1)
            if far.mean() > 0:
                loud = float(np.median(scores.max(axis=1))) > LOUD
                held.setdefault(far.shape[1], []).append(_Spoken(name, (start, stop), far / far.mean(), loud))
    return held


def _salience(spoken: Sequence[_Spoken]) -> NDArray[np.float64]:
    """How much what is read at a position counts, (samples, positions), with a mean of 1."""
    far = np.sum([s.far for s in spoken], axis=0)
    return np.asarray(EVERYWHERE + (1 - EVERYWHERE) * far / far.mean())
