"""The plan, obeyed: canonical graph + ``QuantPlan`` give the mixed-precision ONNX model.

Names: what layers read keeps the canonical tensor's name ``t``. Where ``t`` is stored in integers its producer writes
``t/float``, QuantizeLinear makes ``t/uint8`` and DequantizeLinear gives ``t`` back; a model input ``x`` becomes
``x/dequantized``. A conversion for layers with fewer bits reads ``t`` and gives ``t/as_uint8``.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import NodeProto, TensorProto, helper

from hybridq import __version__
from hybridq.build import barriers, boundaries, packing, padding, pools, tables
from hybridq.build.metadata import Copy, Metadata, write_metadata
from hybridq.build.writer import Writer
from hybridq.graph import edit
from hybridq.graph.halves import half_ends, narrow_ends
from hybridq.graph.model import Layer, Model
from hybridq.graph.onnx_file import LazyTensor, OnnxFile
from hybridq.graph.opset import ir_version_of, opset_imports, opset_of, quantizer_domain
from hybridq.graph.outside import dtype_of
from hybridq.plan.quant_plan import QuantPlan
from hybridq.storage.weights import Weights


def build(model: Model, plan: QuantPlan, weights: Weights) -> OnnxFile:
    """The ONNX model that the plan describes."""
    writer = Writer(model.proto.graph, quantizer_domain(opset_of(model.proto)))
    for name in model.inputs:
        if name in plan.roundings:
            boundaries.store_input(writer, name, plan.written(plan.roundings[name].stored))
    for node in model.proto.graph.node:
        _write(writer, node, model, plan, weights)
    return _finish(writer, model, plan, weights)


def _write(writer: Writer, given: NodeProto, model: Model, plan: QuantPlan, weights: Weights) -> None:
    """Write one node with its inputs and outputs as the plan wants them."""
    node = NodeProto()
    node.CopyFrom(given)
    layer = model.layer_of.get(node.name)
    if layer is None:
        node.input[:] = [writer.values.get(name, name) for name in node.input]
    else:
        _read(writer, node, layer, model, plan, weights)
        tables.pick(writer, node, plan.layers[layer.name].weights, weights)
        pool = plan.layers[layer.name].pool
        if pool is not None:
            channels = (model.tensors[layer.inputs[0]].shape or ())[1]
            pools.replace(writer, node, pool, int(channels))
    writer.nodes.append(node)
    for i, name in enumerate(given.output):
        rounding = plan.roundings.get(name)
        if rounding is not None:
            node.output[i] = writer.fresh(f"{name}/float")
            raw = barriers.put(writer, node, node.output[i], rounding.barrier)
            boundaries.store(writer, name, raw, name, plan.written(rounding.stored))


def _read(writer: Writer, node: NodeProto, layer: Layer, model: Model, plan: QuantPlan, weights: Weights) -> None:
    """Let a layer's node read weights, bias and activations in the forms that the plan gives them."""
    planned = plan.layers[layer.name]
    by_index = {w.index: w for w in planned.weights}
    for i, name in enumerate(node.input):
        if i in by_index and by_index[i].picked:
            continue
        if i in by_index:
            node.input[i] = packing.weight(writer, by_index[i], planned.padding, weights)
            if planned.operand_axes:
                node.input[i] = packing.with_axes(writer, name, planned.operand_axes, weights)
        elif name and name == layer.bias and planned.bias is not None:
            node.input[i] = packing.bias(writer, planned.bias)
        elif name in layer.inputs:
            node.input[i] = _held(writer, name, layer, plan)
            if planned.padding and i == 0:
                form = plan.written(plan.read(model.group_of[name].name, layer.name))
                node.input[i] = padding.padded(writer, name, node.input[i], form, planned.padding)


def _held(writer: Writer, tensor: str, layer: Layer, plan: QuantPlan) -> str:
    """The name under which a layer reads a tensor: as it is, or converted."""
    boundary = plan.boundaries.get((layer.name, tensor))
    if boundary is None or boundary.conversion is None:
        return writer.values.get(tensor, tensor)
    return boundaries.converted(writer, boundary, plan.written(boundary.conversion))


def _finish(writer: Writer, model: Model, plan: QuantPlan, weights: Weights) -> OnnxFile:
    """The whole model: inputs and outputs as given, float16 where they had it; the initializers that are still read.

    Shapes inside are left to inference, as most exporters leave them: of a small model they are several percent.
    """
    given = model.proto
    proto = helper.make_model(
        helper.make_graph(writer.nodes, given.graph.name or "hybridq", given.graph.input, given.graph.output),
        producer_name="hybridq",
        producer_version=__version__,
        ir_version=ir_version_of(opset_of(given)),
        opset_imports=opset_imports(given),
    )
    done = {name: str(layer.done) for name, layer in plan.layers.items()}
    asked = {name: str(layer.asked) for name, layer in plan.layers.items() if layer.asked is not layer.done}
    wide = narrow_ends(proto, half_ends(given) or (), writer.fresh)
    copies = {**writer.copies, **{inner: Copy(end) for end, inner in wide.items()}}
    write_metadata(proto, Metadata(plan.target, done, asked, copies))
    read = {name for node in writer.nodes for name in edit.reads(node)}
    kept = [t for t in given.graph.initializer if t.name in read or t.name in model.outputs]
    return OnnxFile(proto, [*(_original(t, wide, weights) for t in kept), *writer.tensors.values()])


def _original(tensor: TensorProto, wide: Mapping[str, str], weights: Weights) -> LazyTensor:
    name = tensor.name
    return LazyTensor(wide.get(name, name), dtype_of(tensor), tuple(tensor.dims), lambda: weights[name])
