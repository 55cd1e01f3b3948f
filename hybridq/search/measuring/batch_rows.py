"""Which operators treat the rows of a batch apart, and what must be changed in them when the batch grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from hybridq.graph.edit import attributes
from hybridq.graph.model import Model
from hybridq.graph.operators import BatchRows, row_of
from hybridq.storage.weights import Weights

Constants = dict[str, NDArray[Any]]


class Ungrowable(Exception):  # noqa: N818
    """The rows of the batch cannot be told apart behind some node; the message names it."""


def grown(node: NodeProto, count: int, moving: set[str], model: Model, weights: Weights) -> tuple[NodeProto, Constants]:
    """The node for a batch of ``count`` rows, and constants to read instead of the given ones.

    ``moving`` are the inputs that carry rows. Raises Ungrowable.
    """
    copy = NodeProto()
    copy.CopyFrom(node)
    if count == 1:
        return copy, {}
    return copy, RULES[row_of(node).rows](_View(node, count, moving, model, weights))


def lifted(node: NodeProto, model: Model, weights: Weights) -> NodeProto:
    """A node that mixes axis 0, for tensors with an axis of rows put before their own: what is one row stays apart.

    Channel shuffles that move the channels over the batch are such. Raises Ungrowable where the node has no such form.
    """
    view = _View(node, 1, set(node.input[:1]), model, weights)
    copy = NodeProto()
    copy.CopyFrom(node)
    rank = view.rank(node.input[0])
    if any(n not in weights for n in node.input[1:]) or not view.fixed(node.input[0]) or not view.fixed(node.output[0]):
        raise view.no()
    del copy.attribute[:]
    kind = row_of(node).rows
    if kind is BatchRows.TRANSPOSE:
        perm = view.attribute("perm", ()) or range(rank)[::-1]
        copy.attribute.append(helper.make_attribute("perm", [0, *(p + 1 for p in perm)]))
    elif kind is BatchRows.GATHER:
        copy.attribute.append(helper.make_attribute("axis", view.attribute("axis", 0) % rank + 1))
    else:
        raise view.no()
    return copy


def keeps_rows(node: NodeProto, moving: set[str], model: Model, weights: Weights) -> bool:
    """Whether a node is a Reshape to a shape computed from no row, whose first axis stays the batch."""
    if row_of(node).rows is not BatchRows.RESHAPE or moving & set(node.input[1:]) or node.input[1] in weights:
        return False
    before, after = (t.shape if (t := model.tensors.get(n)) else None for n in (node.input[0], node.output[0]))
    return bool(before and after and before[0] == after[0] and not attributes(node).get("allowzero", 0))


class _View:
    """One node with what the rules ask about it."""

    def __init__(self, node: NodeProto, count: int, moving: set[str], model: Model, weights: Weights) -> None:
        self.node, self.count, self.moving, self.model, self.weights = node, count, moving, model, weights
        self.given = attributes(node)

    def no(self) -> Ungrowable:
        return Ungrowable(f"'{self.node.name}' ({self.node.op_type}) does not keep the rows of a batch apart")

    def attribute(self, name: str, default: Any) -> Any:
        return self.given.get(name, default)

    def rank(self, name: str) -> int:
        """Number of axes of a tensor or constant."""
        if name in self.weights:
            return int(np.ndim(self.weights[name]))
        tensor = self.model.tensors.get(name)
        if tensor is None or tensor.shape is None:
            raise self.no()
        return len(tensor.shape)

    def fixed(self, name: str) -> bool:
        """Whether every axis of a tensor is a number, and there is one."""
        tensor = self.model.tensors.get(name)
        return bool(tensor and tensor.shape and all(isinstance(d, int) for d in tensor.shape))

    def size(self, name: str, axis: int = 0) -> int | str:
        """Size of an axis as the model declares it."""
        if name in self.weights:
            return int(np.shape(self.weights[name])[axis])
        tensor = self.model.tensors.get(name)
        if tensor is None or not tensor.shape:
            raise self.no()
        return tensor.shape[axis]

    def only_first(self) -> None:
        """Rows may come in through the first input alone, and leave with a batch of one."""
        if any(n in self.moving for n in self.node.input[1:]):
            raise self.no()
        self.keeps_batch()

    def keeps_batch(self) -> None:
        """Every tensor with rows has as many numbers of axis 0 a row on both sides."""
        names = [n for n in [*self.node.input, *self.node.output] if n in self.moving or n in self.node.output]
        if len({self.block(name) for name in names if name}) > 1:
            raise self.no()

    def block(self, name: str) -> int:
        """How much of axis 0 is one row: 1 where axis 0 is the batch, more behind a Flatten; names count as 1."""
        size = self.size(name)
        return size if isinstance(size, int) else 1

    def axis(self, axis: int) -> None:
        """An axis that must not be the batch."""
        if axis % max(1, self.rank(self.node.input[0])) == 0:
            raise self.no()

    def constant(self, index: int) -> NDArray[Any]:
        """The value of an input that must be a constant."""
        name = self.node.input[index] if index < len(self.node.input) else ""
        if name not in self.weights:
            raise self.no()
        return np.asarray(self.weights[name])

    def broadcast(self) -> Constants:
        """Every operand with rows has the result's rank; constants do not reach the batch axis, or are 1 there."""
        self.keeps_batch()
        rank = self.rank(self.node.output[0])
        for name in self.node.input:
            full = self.rank(name) == rank
            if name in self.moving and not full:
                raise self.no()
            if name not in self.moving and full and rank and self.size(name) != 1:
                raise self.no()
        return {}


def _apart(view: _View) -> Constants:
    view.only_first()
    return {}


def _paired(view: _View) -> Constants:
    view.keeps_batch()
    return {}


def _axis(view: _View) -> Constants:
    view.only_first()
    view.axis(view.attribute("axis", row_of(view.node).axis))
    return {}


def _mixed(view: _View) -> Constants:
    raise view.no()


def _concat(view: _View) -> Constants:
    view.keeps_batch()
    view.axis(view.attribute("axis", 0))
    found = {}
    for name in view.node.input:
        if name not in view.moving:
            if name not in view.weights:
                raise view.no()
            held = np.asarray(view.weights[name])
            found[name] = np.concatenate([held] * view.count)
    return found


def _reshape(view: _View) -> Constants:
    """Row-major order keeps rows together whatever the shape, as long as axis 0 counts whole rows."""
    shape = view.constant(1).astype(np.int64).copy()
    before, after = view.model.tensors[view.node.input[0]].shape, view.model.tensors[view.node.output[0]].shape
    if not len(shape) or not before or not after or ((shape == 0).any() and view.attribute("allowzero", 0)):
        raise view.no()
    if not isinstance(after[0], int) and shape[0] == -1:
        raise view.no()
    shape[0] = view.count * view.block(view.node.output[0])
    if -1 not in shape[1:] and all(isinstance(d, int) for d in after[1:]):
        shape[1:] = np.asarray(after[1:], np.int64)
    return {view.node.input[1]: shape}


def _flatten(view: _View) -> Constants:
    if view.attribute("axis", 1) == 0 or not all(
        isinstance(d, int) for d in view.model.tensors[view.node.input[0]].shape or ("",)
    ):
        view.keeps_batch()
        view.axis(view.attribute("axis", 1))
    return {}


def _transpose(view: _View) -> Constants:
    view.keeps_batch()
    perm = view.attribute("perm", ())
    if not perm or perm[0] != 0:
        raise view.no()
    return {}


def _axes_input(view: _View, index: int, rank: int) -> NDArray[Any]:
    if index >= len(view.node.input) or not view.node.input[index]:
        raise view.no()
    axes = view.constant(index).reshape(-1) % max(1, rank)
    if (axes == 0).any():
        raise view.no()
    return axes


def _squeeze(view: _View, extra: int = 0) -> Constants:
    view.keeps_batch()
    _axes_input(view, 1, view.rank(view.node.input[0]) + extra)
    return {}


def _unsqueeze(view: _View) -> Constants:
    return _squeeze(view, extra=view.constant(1).size)


def _slice(view: _View) -> Constants:
    view.only_first()
    _axes_input(view, 3, view.rank(view.node.input[0]))
    return {}


def _gather(view: _View) -> Constants:
    data, indices = view.node.input[:2]
    view.keeps_batch()
    if data in view.moving and indices not in view.moving:
        view.axis(view.attribute("axis", 0))
        return {}
    if indices in view.moving and data not in view.moving and view.attribute("axis", 0) == 0:
        return {}
    raise view.no()


def _resize(view: _View) -> Constants:
    view.only_first()
    if view.attribute("axes", None) is not None:
        return {}
    if len(view.node.input) > 3 and view.node.input[3]:
        sizes = view.constant(3).copy()
        sizes[0] = view.count
        return {view.node.input[3]: sizes}
    if float(view.constant(2)[0]) != 1.0:
        raise view.no()
    return {}


def _pad(view: _View) -> Constants:
    view.only_first()
    if len(view.node.input) > 3 and view.node.input[3]:
        _axes_input(view, 3, view.rank(view.node.input[0]))
        return {}
    pads = view.constant(1).reshape(2, -1)
    if pads[:, 0].any():
        raise view.no()
    return {}


def _reduce(view: _View) -> Constants:
    view.only_first()
    _axes_input(view, 1, view.rank(view.node.input[0]))
    return {}


def _matmul(view: _View) -> Constants:
    left, right = view.node.input
    ranks = view.rank(left), view.rank(right)
    view.keeps_batch()
    if left in view.moving and right in view.moving:
        if ranks[0] != ranks[1] or ranks[0] < 3:
            raise view.no()
    elif left in view.moving:
        if ranks[0] < 2 or (ranks[1] >= ranks[0] and ranks[1] > 2 and view.size(right) != 1):
            raise view.no()
    elif ranks[1] < 3 or ranks[0] > ranks[1] or (ranks[0] == ranks[1] and view.size(left) != 1):
        raise view.no()
    return {}


def _gemm(view: _View) -> Constants:
    view.only_first()
    if view.attribute("transA", 0):
        raise view.no()
    return {}


def _expand(view: _View) -> Constants:
    view.only_first()
    shape = view.constant(1)
    if (
        view.block(view.node.input[0]) != 1
        or len(shape) > view.rank(view.node.input[0])
        or (len(shape) == view.rank(view.node.input[0]) and shape[0] != 1)
    ):
        raise view.no()
    return {}


def _tile(view: _View) -> Constants:
    view.only_first()
    if view.constant(1)[0] != 1:
        raise view.no()
    return {}


RULES: dict[BatchRows, Callable[[_View], Constants]] = {
    BatchRows.APART: _apart,
    BatchRows.PAIRED: _paired,
    BatchRows.BROADCAST: _View.broadcast,
    BatchRows.AXIS: _axis,
    BatchRows.REDUCE: _reduce,
    BatchRows.CONCAT: _concat,
    BatchRows.RESHAPE: _reshape,
    BatchRows.FLATTEN: _flatten,
    BatchRows.TRANSPOSE: _transpose,
    BatchRows.SQUEEZE: _squeeze,
    BatchRows.UNSQUEEZE: _unsqueeze,
    BatchRows.SLICE: _slice,
    BatchRows.GATHER: _gather,
    BatchRows.RESIZE: _resize,
    BatchRows.PAD: _pad,
    BatchRows.MATMUL: _matmul,
    BatchRows.GEMM: _gemm,
    BatchRows.EXPAND: _expand,
    BatchRows.TILE: _tile,
    BatchRows.MIXED: _mixed,
}
