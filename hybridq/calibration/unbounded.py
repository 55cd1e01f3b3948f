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
from onnx import NodeProto

from hybridq.graph import edit, runtime
from hybridq.graph.model import Group, Model
from hybridq.graph.operators import row_of
from hybridq.graph.runtime import Feed, Session

Values = NDArray[np.float32]
LOSES = 40.0  # exp(-40) of the largest is 4e-18: nothing beside 1 in float32
FAR = 1000.0  # a row whose best lies so far below that of others is masked as a whole, by -10000 or less
ENDLESS = 1e30  # no activation is larger; the lowest float32 is, and means -inf
PASSING = ("Add", "Where", "Max", "Min")  # what loses before them still loses behind
NARROWER = 4.0  # times narrower is the range without what loses; else nothing is gained by leaving it out


@dataclass(frozen=True, slots=True)
class Softmax:
    """A Softmax that alone reads a tensor: its own input (the tensor, moved around) and the axis of its rows."""

    tensor: str
    axis: int


def softmax_readers(model: Model) -> dict[str, Softmax]:
    """The Softmax behind each tensor that nothing else reads, by the tensor that is measured.

    Between the two there may be sums and choices of places: further masks, and biases.
    """
    readers: dict[str, Softmax] = {}
    for group in reversed(model.groups):
        reader = _only_softmax(model, group, readers)
        if reader is not None and len(group.sources) == 1:
            readers[group.name] = reader
    return {g.sources[0]: readers[g.name] for g in model.groups if g.name in readers}


def _only_softmax(model: Model, group: Group, readers: Mapping[str, Softmax]) -> Softmax | None:
    """``readers``: those of the groups behind this one."""
    found = None
    for tensor in group.tensors:
        if tensor in model.outputs:
            return None
        for node in model.consumers.get(tensor, ()):
            row = row_of(node)
            if row.makes_scores and row.axis is not None:
                found = Softmax(tensor, int(edit.attribute(node, "axis", row.axis)))
            elif node.op_type in PASSING:
                found = _behind(model, tensor, node, readers)
                if found is None:
                    return None
            elif not any(model.group_of.get(o) is group for o in node.output):
                return None
    return found


def _behind(model: Model, tensor: str, node: NodeProto, readers: Mapping[str, Softmax]) -> Softmax | None:
    """The Softmax behind a sum or choice that reads a tensor, where its rows lie along the last axis of both."""
    group = model.group_of.get(node.output[0])
    softmax = readers.get(group.name) if group else None
    if softmax is None:
        return None
    rank, own = (len(model.tensors[t].shape or ()) for t in (softmax.tensor, tensor))
    return Softmax(tensor, -1) if own and softmax.axis in (-1, rank - 1) else None


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
        best = rows.max(axis=softmax.axis, keepdims=True, initial=-np.inf)
        winning: Values = values[finite & (rows >= best - LOSES) & (best >= best.max(initial=-np.inf) - FAR)]
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
