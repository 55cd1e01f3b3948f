"""Infinities that are meant: masks of -inf, and numbers that stand for them. Ranges come from all other values.

Where a tensor's extremes are infinite, or so far apart before a Softmax that part of it can only lose there, the whole
tensor is looked at: a range is made of the finite values that count. A value that lies ``LOSES`` below the largest of
its row adds less to a Softmax than float32 can say, so whatever number stands for a mask is found, and only there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.graph import edit, runtime
from hybridq.graph.model import Group, Model
from hybridq.graph.operators import row_of
from hybridq.graph.runtime import Feed, Session

Values = NDArray[np.float32]
LOSES = 40.0  # exp(-40) of the largest is 4e-18: nothing beside 1 in float32
ENDLESS = 1e30  # no activation is larger; the lowest float32 is, and means -inf
NARROWER = 4.0  # times narrower is the range without what loses; else nothing is gained by leaving it out


@dataclass(frozen=True, slots=True)
class Softmax:
    """A Softmax that alone reads a tensor: its own input (the tensor, moved around) and the axis of its rows."""

    tensor: str
    axis: int


def softmax_readers(model: Model) -> dict[str, Softmax]:
    """The Softmax behind each tensor that nothing else reads, by the tensor that is measured."""
    found = {}
    for group in model.groups:
        reader = _only_softmax(model, group)
        if reader is not None and len(group.sources) == 1:
            found[group.sources[0]] = reader
    return found


def _only_softmax(model: Model, group: Group) -> Softmax | None:
    found = None
    for tensor in group.tensors:
        if tensor in model.outputs:
            return None
        for node in model.consumers.get(tensor, ()):
            row = row_of(node)
            if row.makes_scores and row.axis is not None:
                found = Softmax(tensor, int(edit.attribute(node, "axis", row.axis)))
            elif not any(model.group_of.get(o) is group for o in node.output):
                return None
    return found


def is_odd(low: float, high: float, softmax: Softmax | None) -> bool:
    """Whether a tensor with these extremes must be looked at whole; one without any element need not."""
    if low > high:
        return False
    endless = not (low > -ENDLESS and high < ENDLESS)
    return endless or (softmax is not None and high - low > 2 * LOSES)


def counting(values: Values, softmax: Softmax | None) -> Values:
    """The values that a range must hold, flat: all of them where leaving some out gains nothing."""
    finite = np.abs(values) < ENDLESS
    kept: Values = values[finite]
    if softmax is not None and values.ndim:
        rows = np.where(finite, values, -np.inf)
        winning: Values = values[finite & (rows >= rows.max(axis=softmax.axis, keepdims=True) - LOSES)]
        if _width(winning) * NARROWER < _width(kept):
            return winning
    return kept


def _width(values: Values) -> float:
    return float(values.max()) - float(values.min()) if values.size else 0.0


@dataclass
class Whole:
    """Whole tensors of the model behind an instrumented one, computed when they are asked for."""

    model: bytes = field(repr=False)
    sessions: dict[tuple[str, ...], Session] = field(default_factory=dict)

    def values(self, feed: Feed, names: Sequence[str]) -> Mapping[str, Values]:
        """The tensors ``names``; inputs come from the feed."""
        inner = tuple(dict.fromkeys(n for n in names if n not in feed))
        if inner and inner not in self.sessions:
            proto = onnx.load_model_from_string(self.model)
            del proto.graph.output[:]
            runtime.expose(proto, inner)
            self.sessions[inner] = runtime.session(proto, threads=1)
        found = runtime.run(self.sessions[inner], feed, list(inner)) if inner else []
        return {**{n: feed[n] for n in names if n in feed}, **dict(zip(inner, found, strict=True))}
