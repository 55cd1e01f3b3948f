"""A model that arrives quantized: its float graph, and what its quantizers said of every tensor and weight.

QDQ: a QuantizeLinear and its DequantizeLinears vanish, their scale and zero point are kept under the tensor's name; a
DequantizeLinear of a constant becomes that constant in float. What moves integers between the two moves floats then.
A Relu that the quantizer dropped, since integers that end at zero do its work, is put back.
QOperator models (QLinearConv and the like) are written as QDQ first, which says the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.errors import ModelError
from hybridq.graph import edit
from hybridq.graph.intake.folded import with_constants
from hybridq.graph.intake.picked import picked_first
from hybridq.graph.intake.qoperators import as_qdq
from hybridq.graph.operators import Movement, Role, row_of
from hybridq.graph.outside import values_of

Array = NDArray[Any]
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
ORDERED = ("ArgMax", "ArgMin")  # the order of integers is that of the numbers they stand for
SIGNED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "BatchNormalization")
FLOATS = "hybridq takes quantizers around operators that compute with floats."
ENDINGS = ("_quantized", "_QuantizeLinear_Output", "_DequantizeLinear_Output")


@dataclass(frozen=True, slots=True, eq=False)
class Quantizer:
    """``real = scale * (q - zero_point)`` of integers of a NumPy type; ``axis`` is None for one scale a tensor."""

    dtype: np.dtype[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int | None = None

    def same_as(self, other: Quantizer) -> bool:
        """Whether both map every real value to the same one."""
        return (
            self.dtype == other.dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True)
class Recovered:
    """The float model, and its quantizers: ``tensors`` of activations, ``weights`` and ``biases`` of constants.

    ``dequantized`` names the tensor of the given model that holds a tensor's values as its readers saw them.
    """

    proto: onnx.ModelProto
    tensors: Mapping[str, Quantizer]
    weights: Mapping[str, Quantizer]
    biases: Mapping[str, Quantizer]
    dequantized: Mapping[str, str] = field(default_factory=dict)


def is_quantized(proto: onnx.ModelProto) -> bool:
    """Whether a model holds quantizers with fixed parameters."""
    return any(n.op_type in (QUANTIZE, DEQUANTIZE) or n.op_type.startswith("QLinear") for n in proto.graph.node)


def recover(given: onnx.ModelProto, path: str = "") -> Recovered:
    """The float graph of a quantized model. Raises ModelError for parameters that are computed, and integer ends."""
    work = _Work(picked_first(as_qdq(with_constants(given), path)), path)
    work.run()
    return Recovered(work.result(), work.tensors, work.weights, work.biases, work.dequantized)


@dataclass
class _Work:
    """One recovery: ``floats`` maps an integer tensor to the float one that it stands for."""

    proto: onnx.ModelProto
    path: str
    tensors: dict[str, Quantizer] = field(default_factory=dict)
    weights: dict[str, Quantizer] = field(default_factory=dict)
    biases: dict[str, Quantizer] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)
    dequantized: dict[str, str] = field(default_factory=dict)
    made: dict[str, TensorProto] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    integers: set[str] = field(default_factory=set)
    copies: dict[str, dict[tuple[str, ...], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.proto.graph
        self.constants = {t.name: t for t in graph.initializer}
        for node in graph.node:
            if node.op_type != "Constant" or edit.attribute(node, "value") is None:
                continue
            tensor = self.constants[node.output[0]] = TensorProto()
            tensor.CopyFrom(edit.attribute(node, "value"))
            tensor.name = node.output[0]
        self.outputs = {o.name for o in graph.output}
        self.readers = edit.consumers(graph.node)
        self.raw = _read_raw(graph, self.constants)

    def run(self) -> None:
        """Every node in order: quantizers go, the others read floats; Constants are initializers."""
        for node in self.proto.graph.node:
            if node.op_type == "Constant" and node.output[0] in self.constants:
                continue
            if node.op_type == QUANTIZE:
                self._quantize(node)
            elif node.op_type == DEQUANTIZE:
                self._dequantize(node)
            elif node.input and node.input[0] in self.integers and row_of(node).inputs[0] is not Role.SHAPE:
                self._of_integers(node)
            else:
                self._other(node)

    def _quantize(self, node: NodeProto) -> None:
        source, parameters = self.floats.get(node.input[0], node.input[0]), tuple(node.input[1:])
        if node.output[0] in self.outputs:
            self._refuse(f"its output '{node.output[0]}' is of integers", "Let its DequantizeLinear be the output.")
        found = self._quantizer(node)
        if source in self.constants:
            self._rounded(source, node.output[0], found)
            return
        before = self.tensors.get(source)
        if source in self.raw or (before is not None and not before.same_as(found)):
            source = self._copied(source, parameters)
        if source not in self.tensors:
            self.tensors[source] = found
            self._saturated(source, found)
        self.floats[node.output[0]] = source
        self.integers.add(node.output[0])

    def _copied(self, source: str, parameters: tuple[str, ...]) -> str:
        """A copy of a tensor that some readers see rounded and others not, or otherwise: it takes the quantizer."""
        copies = self.copies.setdefault(source, {})
        if parameters not in copies:
            copy = copies[parameters] = f"{source}/rounded{len(copies) or ''}"
            self.nodes.append(_copy(source, copy))
        return copies[parameters]

    def _saturated(self, source: str, found: Quantizer) -> None:
        """Put a Relu back where integers end at zero: quantizers drop it there, since saturation does its work."""
        if found.scale.ndim or int(found.zero_point) != np.iinfo(found.dtype).min:
            return
        place = next((i for i, n in enumerate(self.nodes) if source in n.output), None)
        if place is None or self.nodes[place].op_type not in SIGNED or len(self.nodes[place].output) > 1:
            return
        before = f"{source}/before_relu"
        self.nodes[place].output[0] = before
        self.nodes.insert(place + 1, helper.make_node("Relu", [before], [source], name=f"{source}/relu"))

    def _rounded(self, source: str, result: str, found: Quantizer) -> None:
        """A constant that is quantized where it is used: its integers are constants."""
        values = values_of(self.constants[source]).astype(np.float32)
        steps = np.rint(values / _along(found.scale, found.axis, values.ndim)) + _along(
            found.zero_point, found.axis, values.ndim
        )
        ends = np.iinfo(found.dtype)
        self.constants[result] = numpy_helper.from_array(np.clip(steps, ends.min, ends.max).astype(found.dtype), result)

    def _dequantize(self, node: NodeProto) -> None:
        source, result = node.input[0], node.output[0]
        if source in self.constants:
            self._constant(node)
        elif source not in self.floats:
            self._of_outside(node)
            return
        elif result in self.outputs:  # its name stays: it is the model's
            self.nodes.append(helper.make_node("Identity", [self.floats[source]], [result], name=node.name))
            self.tensors[result] = self.tensors[self.floats[source]]
        else:
            self.floats[result] = self.floats[source]
        self.dequantized.setdefault(self.floats.get(source, ""), result)

    def _of_outside(self, node: NodeProto) -> None:
        """Floats of integers that no quantizer made, an input's or a table's rows: the node stays what makes them.

        To round its result by its own scale changes nothing, so that readers have integers to compute with. ONNX
        Runtime would pull the node behind those that move its result, and fails on int8 there: a Concat is in the way.
        """
        self._other(node)
        result = node.output[0]
        if any(row_of(n).movement is not Movement.NONE for n in self.readers.get(result, ())):
            self.nodes[-1].output[0] = f"{result}/dequantized"
            self.nodes.append(_copy(f"{result}/dequantized", result))
        if not any(edit.attribute(node, word) for word in ("block_size", "output_dtype")):
            found = self._quantizer(node)
            if not found.scale.ndim:
                self.tensors[result] = found
                self.dequantized[result] = result

    def _constant(self, node: NodeProto) -> None:
        """A dequantized constant, under the name it had before it was quantized."""
        name = node.input[0]
        for ending in ENDINGS:
            name = name.removesuffix(ending)
        taken = {*self.constants, *self.outputs} - {node.input[0]}
        if name in taken or name in self.made:
            name = node.output[0]
        self.floats[node.output[0]] = name
        held = values_of(self.constants[node.input[0]])
        if edit.attribute(node, "block_size", 0):  # more scales than hybridq has for weights: rounded anew
            self.made[name] = numpy_helper.from_array(self._of_blocks(node, held), name)
            return
        found = self._quantizer(node)
        steps = held.astype(np.int64) - _along(found.zero_point, found.axis, held.ndim)
        values = steps.astype(np.float32) * _along(found.scale, found.axis, held.ndim)
        self.made[name] = numpy_helper.from_array(values.astype(np.float32), name)
        (self.biases if held.dtype == np.int32 else self.weights)[name] = found

    def _of_blocks(self, node: NodeProto, held: Array) -> NDArray[np.float32]:
        """The values of a constant that has a scale, and a zero point, for each block along an axis."""
        axis, size = edit.attribute(node, "axis", 1), edit.attribute(node, "block_size")
        numbers = [values_of(self.constants[n]).astype(np.float32) for n in node.input[1:] if n in self.constants]
        whole = [np.repeat(n, size, axis).take(range(held.shape[axis]), axis) for n in numbers]
        steps = held.astype(np.float32) - (whole[1] if len(whole) > 1 else 0)
        return (steps * whole[0]).astype(np.float32)

    def _other(self, node: NodeProto) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self.floats.get(i, i) for i in node.input]
        self.nodes.append(copy)

    def _of_integers(self, node: NodeProto) -> None:
        """What reads integers: a Clip of them, a Cast to what they are, or what moves them, which moves floats then."""
        found = self.tensors[self.floats[node.input[0]]]
        if node.op_type == "Clip":
            self._limit(node, found)
        elif node.op_type == "Cast" and edit.attribute(node, "to") == helper.np_dtype_to_tensor_dtype(found.dtype):
            self.floats[node.output[0]] = self.floats[node.input[0]]
            self.integers.add(node.output[0])
        elif node.op_type in ORDERED:
            self._other(node)
        elif row_of(node).movement is Movement.NONE or not self._of_one_quantizer(node, found):
            self._refuse(f"{node.op_type} '{node.name or node.output[0]}' computes with integers", FLOATS)
        else:
            self._other(self._filled(node, found) if node.op_type == "Pad" and len(node.input) > 1 else node)
            for output in filter(None, node.output):
                self.integers.add(output)
                self.floats[output] = output
                self.tensors[output] = found

    def _of_one_quantizer(self, node: NodeProto, found: Quantizer) -> bool:
        """Whether all that a node moves has one scale and zero point."""
        moved = [i for i in node.input if i in self.integers]
        return all(self.tensors[self.floats[i]].same_as(found) for i in moved)

    def _filled(self, node: NodeProto, found: Quantizer) -> NodeProto:
        """A Pad of integers with what it fills in as a real number; where none is given that is the integer 0."""
        given = node.input[2] if len(node.input) > 2 else ""
        if found.scale.ndim or (given and given not in self.constants):
            self._refuse(f"Pad '{node.name or node.output[0]}' fills in what is not known", FLOATS)
        steps = int(values_of(self.constants[given])) if given else 0
        copy = NodeProto()
        copy.CopyFrom(node)
        value = float(found.scale * np.float32(steps - int(found.zero_point)))
        copy.input[2:3] = [self._number(f"{node.output[0]}/filled", value)]
        return copy

    def _limit(self, node: NodeProto, found: Quantizer) -> None:
        """A Clip of integers as one of floats before they are rounded, which gives the same integers.

        Exporters write so what takes a part of the integers alone, such as 0 to 127 of uint8.
        """
        steps = self._limits(node, found)
        q, source = node.input[0], self.floats[node.input[0]]
        alone = len(self.readers[q]) == 1 and not any(source in n.input for n in self.nodes)
        maker = next((n for n in self.nodes if source in n.output and len(n.output) == 1), None)
        result, before = f"{node.output[0]}/limited", source
        if alone and maker is not None:  # the name goes to what is rounded
            result, before = source, f"{source}/before_clip"
            maker.output[0] = before
        elif alone:
            del self.tensors[source]
        ends = [self._number(f"{result}/{word}", s) for word, s in zip(("low", "high"), steps, strict=True)]
        self.nodes.append(helper.make_node("Clip", [before, *ends], [result], name=f"{result}/clip"))
        self.tensors[result] = found
        self.floats[node.output[0]] = result
        self.integers.add(node.output[0])

    def _limits(self, node: NodeProto, found: Quantizer) -> list[float | None]:
        """The real values of a Clip's limits; None for one that it does not have."""
        names = [*node.input[1:], "", ""][:2]
        if found.scale.ndim or any(n and n not in self.constants for n in names):
            self._refuse(f"Clip '{node.name or node.output[0]}' has limits of a kind that is not known", FLOATS)
        steps = [int(values_of(self.constants[n])) - int(found.zero_point) if n else None for n in names]
        return [None if s is None else float(found.scale * np.float32(s)) for s in steps]

    def _number(self, name: str, value: float | None) -> str:
        """A constant of one number; empty for none."""
        if value is None:
            return ""
        self.made[name] = numpy_helper.from_array(np.array(value, np.float32), name)
        return name

    def _quantizer(self, node: NodeProto) -> Quantizer:
        names = [n for n in node.input[1:] if n]
        for name in names:
            if name not in self.constants:
                hint = "hybridq takes fixed scales and zero points alone."
                self._refuse(f"the parameters of '{node.name or node.output[0]}' are computed at run time", hint)
        scale = values_of(self.constants[names[0]]).astype(np.float32)
        if len(names) > 1:
            zero = values_of(self.constants[names[1]])
        elif node.op_type == DEQUANTIZE and node.input[0] in self.constants:
            held = values_of(self.constants[node.input[0]])
            zero = np.zeros(scale.shape, held.dtype)
        else:
            zero = np.zeros(scale.shape, np.uint8)
        if scale.size == 1:
            scale, zero = scale.reshape(()), zero.reshape(())
        elif scale.ndim != 1:
            self._refuse(
                f"'{node.name or node.output[0]}' has a scale a block", "hybridq takes one a tensor or channel."
            )
        axis = int(edit.attribute(node, "axis", 1)) if scale.ndim else None
        return Quantizer(zero.dtype, scale, zero.astype(np.int64), axis)

    def _refuse(self, message: str, hint: str) -> None:
        raise ModelError(f"the model is quantized, and {message}", path=self.path, hint=hint)

    def result(self) -> onnx.ModelProto:
        """The float model."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.node[:], proto.graph.value_info[:], proto.graph.initializer[:]
        proto.graph.node.extend(self.nodes)
        read = {i for n in self.nodes for i in edit.reads(n)} | self.outputs
        proto.graph.initializer.extend(t for n, t in self.constants.items() if n in read and n not in self.made)
        proto.graph.initializer.extend(t for n, t in self.made.items() if n in read)
        return proto


def _read_raw(graph: onnx.GraphProto, constants: Collection[str]) -> frozenset[str]:
    """Computed tensors that a quantizer reads and something else, too: a node, a subgraph, a caller, a quantizer."""
    quantizers = {(n.input[0], *n.input[1:]) for n in graph.node if n.op_type == QUANTIZE}
    quantized = Counter(source for source, *_ in quantizers if source not in constants)
    valued = (n for n in graph.node if n.op_type not in (QUANTIZE, "Shape", "Size"))
    others = {i for n in valued for i in edit.reads(n)} | {o.name for o in graph.output}
    return frozenset(t for t, count in quantized.items() if t in others or count > 1)


def _copy(source: str, copy: str) -> NodeProto:
    """A Concat of one tensor, which no optimization takes away."""
    return helper.make_node("Concat", [source], [copy], name=f"{copy}/node", axis=0)


def _along(values: NDArray[Any], axis: int | None, ndim: int) -> NDArray[Any]:
    """One number a channel, shaped to broadcast against ``ndim`` axes; one alone passes through."""
    return values if axis is None else values.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])
