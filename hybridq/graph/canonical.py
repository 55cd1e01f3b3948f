"""The given model to the canonical float graph.

Canonical: BatchNorm and constants folded, opset 21 or the model's own where it is higher, unique names, no initializer
among the inputs, every node named, functions of the model's own written out. ONNX Runtime's basic optimization does the
folding, without the fusions that make up names; it leaves operators of the standard domain only. A model in float16
computes in float32 here; its inputs and outputs keep their type.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import onnx
from onnx import TensorProto, helper

from hybridq.errors import ModelError, Problem
from hybridq.files.temporary import temporary_folder
from hybridq.graph import runtime
from hybridq.graph.edit import Names, attribute, inputs_of, producers, subgraphs
from hybridq.graph.halves import drop_empty_casts, widen_halves
from hybridq.graph.hints import drop_wrong
from hybridq.graph.inlined import drop_identities, restore_functions
from hybridq.graph.linear import join_linear
from hybridq.graph.opset import STANDARD, brought_up, inlined, opset_of

SMALL = 64  # initializers up to this many numbers are kept where decisions depend on them
BIG = 1 << 30  # bytes of weights above which protobuf's 2 GB limit comes near: weights travel in a file of their own
RUNTIME_TYPES = {  # ONNX Runtime's words
    "float": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "double": TensorProto.DOUBLE,
    **{f"{sign}int{n}": getattr(TensorProto, f"{sign}int{n}".upper()) for sign in ("", "u") for n in (8, 16, 32, 64)},
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
    "bfloat16": TensorProto.BFLOAT16,
}
HALVES = "hybridq.float16"  # metadata of a canonical model: what float16 became
RENAMING = ["MatMulAddFusion", "GemmTransposeFusion", "TransposeOptimizer"]  # they name what no file named
LAYER_FUSIONS = ["ConvBNFusion", "ConvMulFusion", "ConvAddFusion", "Pad_Fusion"]
MERGING = ["CommonSubexpressionElimination"]  # of two equal results one may have a quantizer
PRIVATE_FUSIONS = ["GeluFusionL1", "LayerNormFusionL1", "BiasGeluFusion", "FastGeluFusion", "SkipLayerNormFusion"]


def canonicalize(given: onnx.ModelProto, path: str = "", *, folds_layers: bool = True) -> onnx.ModelProto:
    """The canonical graph of a float model, weights included; ``given`` is left as it is.

    Without ``folds_layers`` a BatchNorm and the like stay beside their Conv, as a quantizer between them demands, and
    equal results stay two.
    Raises ModelError when the opset cannot be converted or ONNX Runtime refuses the model.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(given)
    _strip_initializer_inputs(proto)
    proto = inlined(proto)
    name_everything(proto.graph)
    halves = widen_halves(proto)
    try:
        before = brought_up(proto, path)
        drop_wrong(before, skeleton(before))
        proto = _fold(before, path, [] if folds_layers else [*LAYER_FUSIONS, *MERGING])
    except ModelError as error:
        if not halves:
            raise
        hint = "It is in float16, which hybridq computes in float32: give the float32 model it was made from."
        raise ModelError([replace(p, hint=f"{p.hint}\n{hint}".strip()) for p in error.problems]) from error
    restore_functions(before.graph, proto.graph, opset_of(before))
    _complete_types(proto)
    drop_empty_casts(proto.graph)
    if halves:
        helper.set_model_props(proto, {HALVES: "float32"})
    drop_identities(proto.graph)
    _spell_out(proto.graph)
    _drop_unused_opsets(proto)
    name_everything(proto.graph)
    _complete_types(proto)
    join_linear(proto.graph)
    return proto


def remarks(canonical: onnx.ModelProto, path: str = "") -> list[Problem]:
    """What a person should know of how a model was made canonical."""
    if not any(p.key == HALVES for p in canonical.metadata_props):
        return []
    message = "given in float16; float32 takes its place, and its inputs and outputs keep their types"
    hint = "Outputs may differ from the given model's by what float16 rounds away, about 0.001 of the largest value."
    return [Problem(message, path=path, hint=hint, severity="note", code="float16")]


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the data of its large initializers; their names, types and shapes stay."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if math.prod(tensor.dims) > SMALL:
            bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(bare)
    return copy


def _complete_types(proto: onnx.ModelProto) -> None:
    """Add the types and shapes that ONNX Runtime did not write down, drop those of tensors that are gone."""
    graph, made = proto.graph, list(producers(proto.graph.node))
    _replace(graph.value_info, [v for v in graph.value_info if v.name in set(made)])
    inferred = _inferred(proto)
    known = {v.name for v in [*graph.value_info, *graph.input, *graph.output]}
    graph.value_info.extend(v for v in inferred.value_info if v.name not in known)
    known |= {v.name for v in inferred.value_info}
    shaped = {v.name: v for v in inferred.output if v.type.tensor_type.HasField("shape")}
    bare = {o.name: o for o in graph.output if _lacks_shape(o)}
    told = {v.name: v for v in _types_of(proto, [n for n in [*made, *bare] if n not in known | shaped.keys()])}
    for name, output in bare.items():
        output.CopyFrom(shaped.get(name) or told.get(name) or output)
    graph.value_info.extend(v for v in told.values() if v.name not in bare)


def _inferred(proto: onnx.ModelProto) -> onnx.GraphProto:
    """What ONNX's shape inference says; nothing where the model has operators that it does not know."""
    try:
        return onnx.shape_inference.infer_shapes(skeleton(proto), data_prop=True).graph
    except Exception:  # its errors share no public base class
        return onnx.GraphProto()


def _lacks_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _types_of(proto: onnx.ModelProto, names: list[str]) -> list[onnx.ValueInfoProto]:
    """What ONNX Runtime, which knows its own operators, says of tensors that ONNX knows nothing about."""
    if not names:
        return []
    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    runtime.expose(asked, names)
    kinds = {f"tensor({k})": v for k, v in RUNTIME_TYPES.items()}
    try:
        outputs = runtime.session(asked, threads=1, level="none").get_outputs()
    except ModelError:
        return []
    found = [o for o in outputs if o.name in set(names) and o.type in kinds]
    return [onnx.helper.make_tensor_value_info(o.name, kinds[o.type], o.shape or None) for o in found]


def _spell_out(graph: onnx.GraphProto) -> None:
    """Give MeanVarianceNormalization its axes: without them onnx's own checker fails on the operator's definition."""
    for node in graph.node:
        if node.op_type == "MeanVarianceNormalization" and attribute(node, "axes") is None:
            node.attribute.append(helper.make_attribute("axes", [0, 2, 3]))


def _strip_initializer_inputs(proto: onnx.ModelProto) -> None:
    _replace(proto.graph.input, list(inputs_of(proto.graph)))


def _replace(held: Any, values: list[onnx.ValueInfoProto]) -> None:
    """Let a repeated field hold other values."""
    del held[:]
    held.extend(values)


def name_everything(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: its first output's where it has none."""
    names = Names()
    for node in graph.node:
        node.name = names.fresh(node.name or f"{node.op_type}/{next((o for o in node.output if o), '')}")


def _fold(proto: onnx.ModelProto, path: str, without: list[str]) -> onnx.ModelProto:
    folded = _optimized(proto, path, [*RENAMING, *without])
    known = {n.domain for n in proto.graph.node}
    if any(n.domain not in known and n.domain not in STANDARD for n in folded.graph.node):
        folded = _optimized(proto, path, [*RENAMING, *without, *PRIVATE_FUSIONS])
    return folded


def _optimized(proto: onnx.ModelProto, path: str, without: list[str]) -> onnx.ModelProto:
    with temporary_folder(proto.ByteSize()) as folder:
        source, result = folder / "given.onnx", folder / "folded.onnx"
        options = runtime.options(threads=1, level="basic")
        options.optimized_model_filepath = str(result)
        big = proto.ByteSize() > BIG
        if big:
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "folded.data")
            onnx.save(proto, source, save_as_external_data=True, location="given.data")
        try:
            runtime.session(source if big else proto, session_options=options, disabled_optimizers=without)
        except ModelError as error:
            raise ModelError([replace(p, path=path) for p in error.problems]) from error
        return onnx.load(result)


def _drop_unused_opsets(proto: onnx.ModelProto) -> None:
    used = {d for n in proto.graph.node for d in _domains(n)}
    kept = [o for o in proto.opset_import if o.domain in used or o.domain in STANDARD]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def _domains(node: onnx.NodeProto) -> set[str]:
    found = {node.domain}
    for graph in subgraphs(node):
        for inner in graph.node:
            found |= _domains(inner)
    return found
