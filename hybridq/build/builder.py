"""The plan, obeyed: canonical graph + ``QuantPlan`` give the mixed-precision ONNX model.

Names: what consumers read keeps the canonical tensor's name ``t``. Where ``t`` is stored in integers its producer
writes ``t/float``, QuantizeLinear makes ``t/uint8`` and DequantizeLinear gives ``t`` back; a model input ``x`` becomes
``x/dequantized``. A conversion for consumers with fewer bits reads ``t`` and gives ``t/as_uint8``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from hybridq import __version__
from hybridq.graph import edit
from hybridq.graph.analysis import clip_bounds
from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.onnx_file import LazyTensor, OnnxFile
from hybridq.graph.opset import ir_version_of, opset_of
from hybridq.plan.layer_weights import WeightPlan, integers
from hybridq.plan.plan import LayerPlan, QuantPlan, Stored
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams
from hybridq.storage.weights import Weights

Array = NDArray[Any]
FAST_CHANNELS = 4  # ONNX Runtime's fast 8-bit convolution wants input channels in fours
PADDED_OUTPUTS = 16  # fewer output channels gain nothing from it


def build(model: Model, plan: QuantPlan, weights: Weights, *, portable: bool = False) -> OnnxFile:
    """The ONNX model that the plan describes.

    ``portable`` leaves out what only ONNX Runtime needs: barriers and padded input channels.
    """
    builder = _Builder(model, plan, weights, portable)
    for node in model.proto.graph.node:
        builder.emit(node)
    return builder.finish()


@dataclass
class _Builder:
    model: Model
    plan: QuantPlan
    weights: Weights
    portable: bool
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: dict[str, LazyTensor] = field(default_factory=dict)
    visible: dict[str, str] = field(default_factory=dict)  # canonical tensor -> the name consumers read
    made: dict[tuple[Any, ...], str] = field(default_factory=dict)  # what is shared -> its name
    sources: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        graph = self.model.proto.graph
        self.small_values = {t.name: t for t in graph.initializer}
        self.fresh = edit.Names(graph).fresh
        self.activation_of = {x.activation: x for x in self.model.layers if x.activation}
        self.sources = {s for g in self.model.groups for s in g.sources}
        for name in self.model.inputs:
            stored = self._stored(name)
            if not stored.is_float:
                self._store(name, name, self.fresh(f"{name}/dequantized"), stored)
        self.deferred = set() if self.portable else self._deferred()

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node named after its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def constant(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], make: Callable[[], Array]) -> str:
        """Add an initializer whose values are made when they are written."""
        name = self.fresh(name)
        self.tensors[name] = LazyTensor(name, dtype, shape, make)
        return name

    def small(self, name: str, values: Array) -> str:
        """Add a small initializer."""
        return self.constant(name, values.dtype, values.shape, lambda: values)

    def emit(self, node: NodeProto) -> None:
        """Copy one node with its inputs and outputs as the plan wants them."""
        copy = NodeProto()
        copy.CopyFrom(node)
        layer = self.model.layer_of.get(node.name)
        if layer:
            self._layer_inputs(copy, layer)
            self._average(copy, layer)
        else:
            for i, name in enumerate(node.input):
                copy.input[i] = self.visible.get(name, name)
        self.nodes.append(copy)
        owner = layer or self.activation_of.get(node.name)
        if layer and layer.activation and self._rounds_twice(layer):
            self._store(node.output[0], self._rename(copy, 0), node.output[0], self._stored(layer.name))
        elif owner and node.name == owner.activation and self._rounds_twice(owner):
            _slope_zero(copy)
        for i, name in enumerate(node.output):
            stored = self._stored(name)
            if name and not stored.is_float and self._rounds(name, node, stored):
                raw = self._rename(copy, i)
                if self._needs_barrier(node, owner):
                    raw = self._barrier(copy, raw, stored)
                self._store(name, raw, name, stored)

    def _rounds(self, tensor: str, node: NodeProto, stored: Stored) -> bool:
        """Whether a tensor is rounded where it is made.

        What a mover gives is rounded already; in 8 bits saying so again lets ONNX Runtime move integers.
        """
        if tensor in self.deferred:
            return False
        return stored.precision.bits == 8 or tensor in self.sources or node.input[0] in self.deferred

    def _rename(self, node: NodeProto, index: int) -> str:
        """Give an output the name of its unrounded form."""
        node.output[index] = self.fresh(f"{node.output[index]}/float")
        return str(node.output[index])

    def _rounds_twice(self, layer: Layer) -> bool:
        """Whether a Relu stands before integers that reach below zero: ONNX Runtime fuses it only between integers."""
        plan, p = self.plan.layers[layer.name], self._stored(layer.name).qparams
        native = plan.native and bool(plan.weights) and not self.portable
        return native and layer.activation_op == "Relu" and p is not None and int(p.zero_point) != p.qmin

    def _needs_barrier(self, node: NodeProto, owner: Layer | None) -> bool:
        if self.portable:
            return False
        if node.op_type == "MaxPool" and node.input[0] in self.deferred:
            return True
        return owner is not None and self.plan.layers[owner.name].barrier

    def _deferred(self) -> set[str]:
        """Float results that only a MaxPool reads: rounded behind it, else the MaxPool would run in slow integers."""
        found = set()
        for layer in self.model.layers:
            readers = self.model.consumers.get(layer.name, ())
            alone = [r.op_type for r in readers] == ["MaxPool"] and layer.name not in self.model.outputs
            tied = alone and self.model.group_of.get(readers[0].output[0]) is self.model.group[layer.group]
            folded = all(w.folded or w.qparams is None for w in self.plan.layers[layer.name].weights)
            if tied and folded and self._stored(layer.name).qparams is not None:
                found.add(layer.name)
        return found

    def _stored(self, tensor: str) -> Stored:
        group = self.model.group_of.get(tensor)
        return self.plan.groups[group.name].stored if group else Stored(Precision.FLOAT32)

    def _barrier(self, node: NodeProto, raw: str, stored: Stored) -> str:
        """Keep ONNX Runtime from making a float computation integer: LeakyRelu changes no bit with these slopes.

        A Clip from zero may go too where saturation does its work.
        """
        if node.op_type == "Relu" or (node.op_type == "Clip" and self._saturates(node, stored)):
            _slope_zero(node)
            return raw
        return self.node("LeakyRelu", [raw], self.fresh(f"{raw}/barrier"), alpha=1.0)

    def _saturates(self, clip: NodeProto, stored: Stored) -> bool:
        """Whether the integers of ``stored`` end where a Clip from zero does."""
        low, high = clip_bounds(clip, self.small_values) or (0.0, -math.inf)
        reach = stored.qparams.range if stored.qparams else None
        return low == 0.0 and reach is not None and reach.min >= 0.0 and reach.max <= high

    def _store(self, name: str, raw: str, result: str, stored: Stored) -> None:
        """Bring ``raw`` into its stored form; consumers read ``result``."""
        if stored.qparams is None:
            half = self.node("Cast", [raw], self.fresh(f"{name}/float16"), to=TensorProto.FLOAT16)
            self.node("Cast", [half], result, to=TensorProto.FLOAT)
        else:
            numbers = self._numbers(name, stored.qparams)
            integers = self.node("QuantizeLinear", [raw, *numbers], self.fresh(f"{name}/{stored.precision}"))
            self.node("DequantizeLinear", [integers, *numbers], result)
        if result != name:
            self.visible[name] = result

    def _numbers(self, name: str, p: QParams) -> list[str]:
        """Scale and zero point as initializers, shared by all who use the same."""
        key = ("numbers", p.precision, p.scale.tobytes(), p.zero_point.tobytes(), p.axis)
        if key not in self.made:
            scale = self.small(f"{name}/scale", p.scale)
            zero = self.small(f"{name}/zero_point", p.zero_point.astype(p.precision.numpy))
            self.made[key], self.made["zero_point", *key] = scale, zero
        return [self.made[key], self.made["zero_point", *key]]

    def _layer_inputs(self, node: NodeProto, layer: Layer) -> None:
        plan = self.plan.layers[layer.name]
        by_index = {w.index: w for w in plan.weights}
        padding = self._padding(layer, plan)
        for i, name in enumerate(node.input):
            if i in by_index:
                node.input[i] = self._weight(by_index[i], padding)
            elif name and name == layer.bias and plan.bias is not None:
                node.input[i] = self._bias(plan)
            elif name in layer.inputs:
                read = self._read(name, plan)
                node.input[i] = self._padded(read, self._form(name, plan), padding) if padding and i == 0 else read

    def _average(self, node: NodeProto, layer: Layer) -> None:
        """Make an AveragePool in 8 bits what ONNX Runtime computes fast and exactly.

        That is a GlobalAveragePool where the window is the whole map, else a depthwise convolution of ones, whose
        integers sum the window and whose scale divides.
        """
        if self.portable or node.op_type != "AveragePool" or not self.plan.layers[layer.name].native:
            return
        shape = self.model.tensors[layer.inputs[0]].shape or ()
        found = edit.attributes(node)
        window = tuple(found["kernel_shape"])
        del node.attribute[:]
        if shape[2:] == window and not any(found.get("pads", ())):
            node.op_type = "GlobalAveragePool"
            return
        node.op_type = "Conv"
        node.input.append(self._ones(int(shape[1]), window))
        kept = {k: v for k, v in found.items() if k in ("kernel_shape", "strides", "pads", "dilations")}
        node.attribute.extend(helper.make_attribute(k, v) for k, v in {**kept, "group": shape[1]}.items())

    def _ones(self, channels: int, window: tuple[int, ...]) -> str:
        """Depthwise weights that average: int8 ones with the scale ``1 / (k_h k_w)``, shared by all such windows."""
        key = ("ones", channels, window)
        if key not in self.made:
            name = f"average_{'x'.join(map(str, (channels, *window)))}"
            scale = np.asarray(1 / math.prod(window), np.float32)
            p = QParams(Precision.INT8, Scheme.SYMMETRIC, scale, np.zeros((), np.int32), None)
            stored = self.small(f"{name}/int8", np.ones((channels, 1, *window), np.int8))
            self.made[key] = self.node("DequantizeLinear", [stored, *self._numbers(name, p)], self.fresh(name))
        return self.made[key]

    def _read(self, tensor: str, plan: LayerPlan) -> str:
        """The name under which a layer reads a tensor: as it is, or converted to fewer bits, once for all."""
        visible = self.visible.get(tensor, tensor)
        group = self.model.group_of.get(tensor)
        form = self._form(tensor, plan)
        if group is None or form is self.plan.groups[group.name].stored:
            return visible
        if form.qparams is not None and self._barrier_before(group):
            visible = self._shielded(visible)
        key = ("conversion", tensor, plan.done)
        if key not in self.made:
            self.made[key] = self.fresh(f"{tensor}/as_{plan.done}")
            if form.qparams is None:
                half = self.node("Cast", [visible], self.fresh(f"{tensor}/to_{plan.done}"), to=TensorProto.FLOAT16)
                self.node("Cast", [half], self.made[key], to=TensorProto.FLOAT)
            else:
                numbers = self._numbers(tensor, form.qparams)
                q = self.node("QuantizeLinear", [visible, *numbers], self.fresh(f"{tensor}/to_{plan.done}"))
                self.node("DequantizeLinear", [q, *numbers], self.made[key])
        return self.made[key]

    def _form(self, tensor: str, plan: LayerPlan) -> Stored:
        """The form in which a layer reads a tensor."""
        group = self.model.group_of.get(tensor)
        return self.plan.read(group.name, plan.name) if group else Stored(Precision.FLOAT32)

    def _barrier_before(self, group: Group) -> bool:
        """Whether a conversion's quantizer would let ONNX Runtime turn a float computation before it into integers."""
        stays = self.plan.groups[group.name].stored.is_float
        return stays and not self.portable and any(self.plan.layers[n].rewritable for n in group.layers)

    def _shielded(self, tensor: str) -> str:
        key = ("shielded", tensor)
        if key not in self.made:
            self.made[key] = self.node("LeakyRelu", [tensor], self.fresh(f"{tensor}/barrier"), alpha=1.0)
        return self.made[key]

    def _padding(self, layer: Layer, plan: LayerPlan) -> int:
        """Zero channels that make a small first convolution fast; they change no bit."""
        if self.portable or layer.op != "Conv" or not plan.native:
            return 0
        shape = layer.weights[0].shape
        plain = all(a.i == 1 for a in self.model.nodes[layer.node].attribute if a.name == "group")
        if not plain or len(shape) != 4 or shape[0] < PADDED_OUTPUTS:
            return 0
        return -shape[1] % FAST_CHANNELS if shape[1] < FAST_CHANNELS else 0

    def _padded(self, tensor: str, form: Stored, channels: int) -> str:
        """``tensor``, which is the result of a DequantizeLinear, with so many more channels of zeros."""
        key = ("padded", tensor, channels)
        if key not in self.made:
            assert form.qparams is not None
            integers = next(n.input[0] for n in self.nodes if n.output[0] == tensor)
            numbers = self._numbers(tensor, form.qparams)
            pads = self.small(f"{tensor}/pads", np.array([0, 0, 0, 0, 0, channels, 0, 0], np.int64))
            wide = self.node("Pad", [integers, pads, numbers[1]], self.fresh(f"{tensor}/padded"), mode="constant")
            self.made[key] = self.node("DequantizeLinear", [wide, *numbers], self.fresh(f"{tensor}/padded_dequantized"))
        return self.made[key]

    def _weight(self, w: WeightPlan, padding: int) -> str:
        if w.precision is Precision.FLOAT32:
            return w.tensor
        p = w.qparams
        parts = (p.scale.tobytes(), p.zero_point.tobytes(), p.axis) if p else ()
        key = ("weight", w.tensor, w.rounded, w.precision, w.folded, padding, *parts)
        if key not in self.made:
            self.made[key] = self._half(w) if p is None else self._integer_weight(w, p, padding)
        return self.made[key]

    def _half(self, w: WeightPlan) -> str:
        values = self.weights[w.tensor]
        stored = self.constant(f"{w.tensor}/float16", np.dtype(np.float16), values.shape, lambda: to_half(values))
        return self.node("Cast", [stored], self.fresh(f"{w.tensor}/as_float16"), to=TensorProto.FLOAT)

    def _integer_weight(self, w: WeightPlan, p: QParams, padding: int) -> str:
        shape, weights = list(self.weights[w.tensor].shape), self.weights

        def make() -> Array:
            q = integers(w, weights)
            return np.pad(q, [(0, 0), (0, padding), (0, 0), (0, 0)]) if padding else q

        if padding:
            shape[1] += padding
        stored = self.constant(f"{w.tensor}/{p.precision}", p.precision.numpy, tuple(shape), make)
        result = self.fresh(f"{w.tensor}/as_{p.precision}")
        if not w.folded:
            axis = {} if p.axis is None else {"axis": p.axis}
            return self.node("DequantizeLinear", [stored, *self._numbers(w.tensor, p)], result, **axis)
        return self._folded(w.tensor, stored, p, result, len(shape))

    def _folded(self, name: str, stored: str, p: QParams, result: str, rank: int) -> str:
        """Cast, subtract, multiply: ONNX Runtime folds this once at load, a DequantizeLinear it would run each time."""
        shape = [1] * rank if p.axis is not None else []
        if p.axis is not None:
            shape[p.axis] = -1
        wide = self.node("Cast", [stored], self.fresh(f"{name}/integers"), to=TensorProto.FLOAT)
        if p.zero_point.any():
            zero = self.small(f"{name}/zero_point", p.zero_point.astype(np.float32).reshape(shape))
            wide = self.node("Sub", [wide, zero], self.fresh(f"{name}/centred"))
        return self.node("Mul", [wide, self.small(f"{name}/scale", p.scale.reshape(shape))], result)

    def _bias(self, plan: LayerPlan) -> str:
        assert plan.bias is not None
        values, scale = plan.bias.values, plan.bias.scale
        if scale is None:
            return self.small(f"{plan.bias.tensor}/repaired", values)
        steps = np.clip(np.rint(values.reshape(-1).astype(np.float64) / scale), -(2**31), 2**31 - 1).astype(np.int32)
        key = ("bias", plan.bias.tensor, steps.tobytes(), scale.tobytes())
        if key not in self.made:
            stored = self.small(f"{plan.bias.tensor}/int32", steps)
            numbers = [self.small(f"{plan.bias.tensor}/scale", scale)]
            axis = {"axis": 0} if scale.ndim else {}
            name = self.fresh(f"{plan.bias.tensor}/as_int32")
            self.made[key] = self.node("DequantizeLinear", [stored, *numbers], name, **axis)
        return self.made[key]

    def finish(self) -> OnnxFile:
        """The whole model: inputs and outputs as given, the initializers that are still read."""
        source = self.model.proto
        proto = helper.make_model(
            helper.make_graph(self.nodes, source.graph.name or "hybridq", source.graph.input, source.graph.output),
            producer_name="hybridq",
            producer_version=__version__,
            ir_version=ir_version_of(opset_of(source)),
            opset_imports=[o for o in source.opset_import if o.domain] + [helper.make_opsetid("", opset_of(source))],
        )
        produced = {o for n in self.nodes for o in n.output}
        proto.graph.value_info.extend(v for v in source.graph.value_info if v.name in produced)
        done = {n: str(p.done) for n, p in self.plan.layers.items()}
        asked = {n: str(p.asked) for n, p in self.plan.layers.items() if p.asked is not p.done}
        props = {"target": self.plan.target, "precisions": json.dumps(done), "asked": json.dumps(asked)}
        helper.set_model_props(proto, {f"hybridq.{k}": v for k, v in props.items()})
        read = {name for n in self.nodes for name in edit.reads(n)}
        kept = [t for t in source.graph.initializer if t.name in read or t.name in self.model.outputs]
        return OnnxFile(proto, [*map(self._original, kept), *self.tensors.values()])

    def _original(self, tensor: TensorProto) -> LazyTensor:
        values = self.weights[tensor.name]
        return LazyTensor(tensor.name, values.dtype, values.shape, lambda: values)


def _slope_zero(node: NodeProto) -> None:
    """Make an activation a LeakyRelu that sends everything below zero to zero."""
    node.op_type = "LeakyRelu"
    del node.input[1:]
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("alpha", 0.0))


def to_half(values: Array) -> Array:
    """float16, saturated: weights beyond 65504 must not become infinite."""
    limit = float(np.finfo(np.float16).max)
    return np.clip(values, -limit, limit).astype(np.float16)
