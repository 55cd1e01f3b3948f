"""The float model with its statistics computed inside the graph, so that large tensors never leave ONNX Runtime.

Every measured tensor ``x`` gets a few nodes, chosen by what ONNX Runtime fuses and vectorizes best:

* maximum: GlobalMaxPool where ``x`` is an image after a Relu or Clip (it reads the blocked layout of convolutions as
  it is), else ReduceMax; minimum: ReduceMin, nothing where the operator says that it is 0;
* subsample: a MaxPool of kernel 1 with a stride for images, else every n-th element (Slice with a step).

What belongs to many tensors is joined (Concat) to a few outputs: fetching each alone costs more than computing it.
The subsample of an element of a batch depends on that element alone: never on its batch, nor on other samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.calibration.unbounded import Softmax
from hybridq.graph import edit
from hybridq.graph.model import Tensor
from hybridq.graph.operators import Interval, Layout, row_of
from hybridq.graph.outside import values_of
from hybridq.graph.states import States
from hybridq.graph.steering import FLOATS

SUBSAMPLE = 4000  # elements of a tensor and a sample that the histogram sees, about
BLOCKS = 16  # channels of ONNX Runtime's blocked layout; narrower blocks divide it
FAR = 2**62  # a Slice end beyond any tensor


@dataclass(frozen=True, slots=True)
class Stripe:
    """A tensor's share of an output: ``width`` columns from ``start``; width 0 stands for the whole output."""

    tensor: str
    start: int
    width: int


@dataclass(frozen=True, slots=True)
class Output:
    """An output of the instrumented graph, of shape (rows, columns, ...). ``kind``: max, min, sum or sample."""

    name: str
    kind: str
    columns: tuple[Stripe, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """An instrumented model, ready for any process: equal where ``digest`` is equal.

    ``inputs`` are the measured model inputs, read from the feed; ``zeros`` the tensors whose minimum is 0;
    ``histogram`` whether subsamples are taken; ``left_out`` says why a tensor is not measured; ``softmax`` has the
    tensors that only a Softmax reads; ``ends`` the float outputs of the model itself; ``states`` what goes round.
    """

    digest: str
    model: bytes = field(compare=False, repr=False)
    outputs: tuple[Output, ...] = field(compare=False)
    inputs: tuple[str, ...] = field(compare=False)
    zeros: frozenset[str] = field(compare=False)
    histogram: bool = field(compare=False)
    left_out: Mapping[str, str] = field(compare=False)
    softmax: Mapping[str, Softmax] = field(compare=False, default_factory=dict)
    ends: tuple[str, ...] = field(compare=False, default=())
    states: States = field(compare=False, default_factory=dict)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Every measured tensor: the model's inputs first, then in graph order."""
        inside = [c.tensor for o in self.outputs if o.kind == "max" for c in o.columns]
        return (*self.inputs, *inside)


def instrument(
    proto: onnx.ModelProto,
    tensors: Mapping[str, Tensor],
    names: Iterable[str],
    *,
    histogram: bool,
    ends_only: Collection[str] = (),
    states: States | None = None,
) -> Program:
    """Let a model compute statistics of the tensors ``names`` instead of its outputs.

    ``tensors`` gives their types and shapes; of ``ends_only`` there is never a histogram. What cannot be measured (no
    float32, no element, inside a subgraph) is
    left out with the reason. The outputs that ``states`` take stay.
    """
    writer = _Writer(proto, tensors, histogram, states or {})
    for name in dict.fromkeys(names):
        reason = writer.refusal(name)
        if reason:
            writer.left_out[name] = reason
        elif name in writer.graph_inputs:
            writer.inputs.append(name)
        else:
            writer.measure(name, histogram and name not in ends_only)
    return writer.finish()


@dataclass
class _Part:
    """A small tensor on its way to an output: a tensor's ``width`` columns."""

    tensor: str
    value: str
    width: int


class _Writer:
    """Appends statistics to a copy of a graph."""

    def __init__(self, proto: onnx.ModelProto, tensors: Mapping[str, Tensor], histogram: bool, states: States) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(proto)
        self.graph = self.proto.graph
        self.tensors, self.histogram, self.states = tensors, histogram, states
        self.graph_inputs = {i.name: i for i in self.graph.input}
        self.producers = edit.producers(self.graph.node)
        self.constants = {i.name: i for i in self.graph.initializer}
        first = next((tensors[i] for i in self.graph_inputs if i in tensors), None)
        self.batch = first.shape[0] if first and first.shape and isinstance(first.shape[0], str) else None
        self.prefix = "statistics"
        while any(name.startswith(self.prefix) for name in [*self.producers, *self.constants, *self.graph_inputs]):
            self.prefix += "_"
        self.parts: dict[tuple[str, ...], list[_Part]] = {}
        self.inputs: list[str] = []
        self.zeros: set[str] = set()
        self.left_out: dict[str, str] = {}
        self.flattened: dict[str, str] = {}

    def refusal(self, name: str) -> str:
        """Why a tensor cannot be measured, or nothing."""
        tensor = self.tensors.get(name)
        if tensor is None or (name not in self.producers and name not in self.graph_inputs):
            return "it is no tensor of the main graph"
        if tensor.dtype != "float32":
            return f"it is {tensor.dtype}, not float32"
        return "it has no element" if 0 in (tensor.shape or ()) else ""

    def measure(self, name: str, histogram: bool) -> None:
        """Append the nodes of one tensor."""
        shape = self.tensors[name].shape
        image = shape is not None and len(shape) == 4 and shape[2:] != (1, 1)
        bounded = self._is_bounded(self.producers[name])
        if image and bounded and shape is not None:
            width = shape[1] if isinstance(shape[1], int) else 0
            self._put("max", name, self._node("GlobalMaxPool", [name]), width, str(shape[0]), self._layout(name))
        else:
            rows = self._rows(name)
            self._put("max", name, self._reduce("ReduceMax", name), 1, rows)
            if not bounded:
                self._put("min", name, self._reduce("ReduceMin", name), 1, rows)
        if bounded:
            self.zeros.add(name)
        if histogram:
            self._subsample(name)

    def _is_bounded(self, node: NodeProto) -> bool:
        """Whether an operator never gives less than 0, and 0 for something."""
        if row_of(node).interval is Interval.CLIP and len(node.input) > 1 and node.input[1] in self.constants:
            return not values_of(self.constants[node.input[1]]).any()
        known = row_of(node).range
        return known is not None and known[0] == 0.0

    def _layout(self, name: str) -> str:
        """``blocked`` where ONNX Runtime keeps an image in the blocked layout of the convolution before it."""
        maker = self.producers[name]
        if row_of(maker).absorbed:
            maker = self.producers.get(maker.input[0], maker)
        channels = (self.tensors[name].shape or (0, 0))[1]
        return (
            "blocked"
            if row_of(maker).layout is Layout.CONV and isinstance(channels, int) and channels % BLOCKS == 0
            else ""
        )

    def _rows(self, name: str) -> str:
        """The axis that tells samples of a batch apart, by its name; ``"1"`` where there is none."""
        shape = self.tensors[name].shape
        return self.batch if shape and self.batch is not None and shape[0] == self.batch else "1"

    def _flat(self, name: str) -> str:
        """The tensor as (rows, elements)."""
        if name not in self.flattened:
            axis = 0 if self._rows(name) == "1" else 1  # a Reshape does not take a tensor without any element
            self.flattened[name] = self._node("Flatten", [name], axis=axis)
        return self.flattened[name]

    def _reduce(self, op: str, name: str) -> str:
        return self._node(op, [self._flat(name), self._constant([1])], keepdims=1)

    def _subsample(self, name: str) -> None:
        shape, rows = self.tensors[name].shape, self._rows(name)
        own = shape[1:] if shape and (rows != "1" or shape[0] == 1) else shape
        sizes = [d for d in own if isinstance(d, int)] if own is not None else []
        if own is None or len(sizes) < len(own):
            self._put("sample", name, self._every_nth(name), 0, rows, name)
            return
        elements = math.prod(sizes)
        if (
            shape is not None
            and len(shape) == 4
            and len(sizes) == 3
            and sizes[1] * sizes[2] > 1
            and elements > SUBSAMPLE
        ):
            strides = _strides(*sizes)
            small = self._node("MaxPool", [name], kernel_shape=[1, 1], strides=strides)
            grid = [-(-d // s) for d, s in zip(sizes[1:], strides, strict=True)]
            self._put("sample", name, small, sizes[0] * math.prod(grid), rows, str(grid), self._layout(name))
        else:
            step = -(-elements // SUBSAMPLE)
            small, width = self._flat(name), -(-elements // step)
            small = self._slice(small, self._constant([step])) if step > 1 else small
            self._put("sample", name, small, width, rows)

    def _every_nth(self, name: str) -> str:
        """A subsample of a tensor whose size is known only when it runs: ``step = ceil(elements / SUBSAMPLE)``."""
        flat = self._flat(name)
        size = self._node("Shape", [flat], start=1, end=2)
        more = self._node("Add", [size, self._constant([SUBSAMPLE - 1])])
        step = self._node("Div", [more, self._constant([SUBSAMPLE])])
        return self._slice(flat, self._node("Max", [step, self._constant([1])]))  # of nothing every first

    def _slice(self, flat: str, step: str) -> str:
        starts, ends, axes = (self._constant([v]) for v in (0, FAR, 1))
        return self._node("Slice", [flat, starts, ends, axes, step])

    def _put(self, kind: str, tensor: str, value: str, width: int, *key: str) -> None:
        """Let a value join the output of its kind; ``key`` keeps apart what cannot be concatenated."""
        alone = () if width else (tensor,)
        self.parts.setdefault((kind, *key, *alone), []).append(_Part(tensor, value, width))

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{self.prefix}/{op}_{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, values: ArrayLike) -> str:
        array = np.asarray(values, np.int64)
        name = f"{self.prefix}/" + "_".join(map(str, array.tolist()))
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
            self.graph.initializer.append(self.constants[name])
        return name

    def finish(self) -> Program:
        """Join the parts, replace the graph's outputs by them and by a sum of each, which is NaN if anything was."""
        for output in self.graph.output:
            if not self.refusal(output.name) and output.name in self.producers:
                rows = self._rows(output.name)
                self._put("sum", output.name, self._reduce("ReduceSum", output.name), 1, rows)
        own = list(self.graph.output)
        del self.graph.output[:]
        outputs = tuple(self._join(key[0], parts) for key, parts in self.parts.items())
        kept = set(self.states.values()) - {o.name for o in self.graph.output}
        self.graph.output.extend([o for o in own if o.name in kept] if outputs else own)  # ONNX Runtime wants one
        data = self.proto.SerializeToString(deterministic=True)
        return Program(
            digest=hashlib.sha256(data).hexdigest(),
            model=data,
            outputs=outputs,
            inputs=tuple(self.inputs),
            zeros=frozenset(self.zeros),
            histogram=self.histogram,
            left_out=self.left_out,
            ends=tuple(o.name for o in own if o.type.tensor_type.elem_type in FLOATS),
            states=self.states,
        )

    def _join(self, kind: str, parts: list[_Part]) -> Output:
        name = parts[0].value if len(parts) == 1 else self._node("Concat", [p.value for p in parts], axis=1)
        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        starts = np.cumsum([0] + [p.width for p in parts]).tolist()
        columns = tuple(Stripe(p.tensor, start, p.width) for p, start in zip(parts, starts, strict=False))
        return Output(name, kind, columns)


def _strides(channels: int, height: int, width: int) -> list[int]:
    """Steps along height and width, about equal, that leave ``SUBSAMPLE`` elements or little more."""
    down = min(height, max(1, round(math.sqrt(channels * height * width / SUBSAMPLE))))
    rows = -(-height // down)
    columns = max(1, SUBSAMPLE // (channels * rows))
    return [down, -(-width // min(columns, width))]
