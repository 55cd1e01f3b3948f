"""The given model to the canonical float graph.

Canonical: BatchNorm and constants folded, opset 21 or the model's own where it is higher, unique names, no initializer
among the inputs, every node named, functions of the model's own written out. ONNX Runtime's basic optimization does the
folding, without the fusions that make up names; it leaves operators of the standard domain only. A model in float16
computes in float32 here, but for constants and for what stays float and ONNX Runtime computes in float16.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import onnx
from onnx import TensorProto

from hybridq.errors import ModelError, Problem
from hybridq.files.temporary import Scratch, temporary_folder
from hybridq.graph import outside, runtime
from hybridq.graph.edit import TakenNames, inputs_of, producers, subgraphs
from hybridq.graph.halves import (
    drop_empty_casts,
    half_ends,
    is_half,
    keep_halves,
    mark_halves,
    native_halves,
    widen_halves,
)
from hybridq.graph.intake.all_axes import write_all_axes
from hybridq.graph.intake.hints import drop_wrong
from hybridq.graph.intake.inlined import drop_identities, drop_prefixes, restore_functions
from hybridq.graph.intake.kept_shapes import keep_shapes
from hybridq.graph.intake.linear import join_linear
from hybridq.graph.intake.one_opset import brought_up, drop_long_domain, has_rows, inlined
from hybridq.graph.intake.shared_constants import share_constants
from hybridq.graph.intake.spelled_out import spell_out, spell_out_sides
from hybridq.graph.intake.unfused import BLOCKED, private, unfuse
from hybridq.graph.load import load
from hybridq.graph.opset import STANDARD, opset_of
from hybridq.graph.outside import bare, is_outside, size_of, spilled, without_initializers

SMALL = 64  # initializers up to this many numbers are kept where decisions depend on them
RUNTIME_TYPES = {  # ONNX Runtime's words
    "float": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "double": TensorProto.DOUBLE,
    **{f"{sign}int{n}": getattr(TensorProto, f"{sign}int{n}".upper()) for sign in ("", "u") for n in (8, 16, 32, 64)},
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
    "bfloat16": TensorProto.BFLOAT16,
}
RENAMING = ["MatMulAddFusion", "GemmTransposeFusion", "TransposeOptimizer"]  # they name what no file named
LAYER_FUSIONS = ["ConvBNFusion", "ConvMulFusion", "ConvAddFusion", "Pad_Fusion"]
MERGING = ["CommonSubexpressionElimination"]  # of two equal results one may have a quantizer
SKIPPING = ["DivMulFusion", "FuseReluClip", "GemmSumFusion", "MatMul_BatchNormalization_Fusion"]  # the result between
REPEATING = ["EnsureUniqueDQForNodeUnit"]  # of one result they make one a reader
AS_GIVEN = [*LAYER_FUSIONS, *MERGING, *SKIPPING, *REPEATING]
PRIVATE_FUSIONS = ["GeluFusionL1", "LayerNormFusionL1", "BiasGeluFusion", "FastGeluFusion", "SkipLayerNormFusion"]


def canonicalize(
    given: onnx.ModelProto, path: str = "", *, folds_layers: bool = True, scratch: Scratch | None = None
) -> onnx.ModelProto:
    """The canonical graph of a float model, weights included; ``given`` is left as it is.

    Without ``folds_layers`` a BatchNorm and the like stay beside their Conv, a bias beside its MatMul, as a quantizer
    between them demands, and equal results stay two. The weights of a large model lie in ``scratch``, which must live
    as long.
    Raises ModelError when the opset cannot be converted or ONNX Runtime refuses the model.
    """
    proto = _plain(given, scratch)
    halves = half_ends(proto)
    try:
        before = brought_up(light(proto, scratch), path)
        unfuse(before, lambda names: _ranks(before, names))
        drop_wrong(before, skeleton(before))
        proto = _fold(before, path, [] if folds_layers else AS_GIVEN, scratch)
    except ModelError as error:
        if halves is None:
            raise
        hint = "It is in float16, which hybridq computes in float32: give the float32 model it was made from."
        raise ModelError([replace(p, hint=f"{p.hint}\n{hint}".strip()) for p in error.problems]) from error
    share_constants(proto.graph)
    drop_prefixes(proto.graph)
    restore_functions(before.graph, proto.graph, opset_of(before))
    _complete_types(proto)
    drop_empty_casts(proto.graph)
    if halves is not None:
        mark_halves(proto, halves)
    drop_identities(proto.graph)
    spell_out(proto.graph)
    write_all_axes(proto.graph)
    _drop_unused_opsets(proto)
    name_everything(proto.graph)
    _complete_types(proto)
    if folds_layers:
        join_linear(proto.graph)
    return proto


def _plain(given: onnx.ModelProto, scratch: Scratch | None) -> onnx.ModelProto:
    """A copy without functions of its own and float16, every node named, of the opset that was given."""
    proto = onnx.ModelProto()
    proto.CopyFrom(given)
    _strip_initializer_inputs(proto)
    proto = inlined(proto)
    drop_long_domain(proto)
    spell_out_sides(proto.graph)
    name_everything(proto.graph)
    half = is_half(proto)
    folded = _fold_constants(proto, scratch) if half or has_rows(proto) else None
    kept = native_halves(proto, folded, _inferred(proto)) if half and folded is not None else {}
    widen_halves(proto)
    keep_halves(proto.graph, kept)
    return proto


def remarks(canonical: onnx.ModelProto, path: str = "") -> list[Problem]:
    """What a person should know of how a model was made canonical."""
    found = []
    if half_ends(canonical) is not None:
        message = "given in float16; float32 takes its place, and its inputs and outputs keep their types"
        hint = (
            "Outputs may differ from the given model's by what float16 rounds away, about 0.001 of the largest value."
        )
        found.append(Problem(message, path=path, hint=hint, severity="note", code="float16"))
    own = private(canonical.graph)
    if own:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(n.op_type for n in own).most_common(4))
        machine = " for one kind of processor" if any(n.domain == BLOCKED for n in own) else ""
        message = f"ONNX Runtime optimized this file{machine}; operators of its own stay float32: {kinds}"
        hint = "Give the model from before it was optimized: all its layers can take a precision."
        found.append(Problem(message, path=path, hint=hint, severity="warning", code="optimized"))
    return found


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the data of its large initializers; their names, types and shapes stay."""
    copy = without_initializers(proto)
    copy.graph.initializer.extend(bare(t) if math.prod(t.dims) > SMALL else t for t in proto.graph.initializer)
    return copy


def _complete_types(proto: onnx.ModelProto) -> None:
    """Add the types and shapes that ONNX Runtime did not write down, drop those of tensors that are gone."""
    graph, made = proto.graph, producers(proto.graph.node)
    _replace(graph.value_info, [v for v in graph.value_info if v.name in made])
    inferred = _inferred(proto)
    known = {v.name for v in [*graph.value_info, *graph.input, *graph.output]}
    graph.value_info.extend(v for v in inferred.value_info if v.name not in known)
    known |= {v.name for v in inferred.value_info}
    shaped = {v.name: v for v in inferred.output if v.type.tensor_type.HasField("shape")}
    bare = {o.name: o for o in graph.output if _lacks_shape(o)}
    known |= shaped.keys()
    told = {v.name: v for v in _types_of(proto, [n for n in [*made, *bare] if n not in known])}
    for name, output in bare.items():
        output.CopyFrom(shaped.get(name) or told.get(name) or output)
    graph.value_info.extend(v for v in told.values() if v.name not in bare)


def _inferred(proto: onnx.ModelProto) -> onnx.GraphProto:
    """What ONNX's shape inference says; nothing where the model has operators that it does not know."""
    found = skeleton(proto)
    try:
        found = onnx.shape_inference.infer_shapes(found, data_prop=True)
        while keep_shapes(found.graph):
            found = onnx.shape_inference.infer_shapes(found, data_prop=True)
    except Exception:  # its errors share no public base class
        return onnx.GraphProto()
    return found.graph


def _lacks_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _types_of(proto: onnx.ModelProto, names: list[str]) -> list[onnx.ValueInfoProto]:
    """What ONNX Runtime, which knows its own operators, says of tensors that ONNX knows nothing about."""
    if not names:
        return []
    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    runtime.expose(asked, names)
    kinds, wanted = {f"tensor({k})": v for k, v in RUNTIME_TYPES.items()}, set(names)
    try:
        outputs = runtime.session(asked, threads=1, level="none").get_outputs()
    except ModelError:
        return []
    found = [o for o in outputs if o.name in wanted and o.type in kinds]
    return [onnx.helper.make_tensor_value_info(o.name, kinds[o.type], o.shape or None) for o in found]


def _ranks(proto: onnx.ModelProto, names: Iterable[str]) -> dict[str, int]:
    """The number of axes of tensors, as far as ONNX Runtime knows it before it runs."""
    known = {t.name: len(t.dims) for t in proto.graph.initializer}
    told = [*proto.graph.input, *_types_of(proto, [n for n in dict.fromkeys(names) if n and n not in known])]
    return known | {v.name: len(v.type.tensor_type.shape.dim) for v in told}


def _strip_initializer_inputs(proto: onnx.ModelProto) -> None:
    _replace(proto.graph.input, list(inputs_of(proto.graph)))


def _replace(held: Any, values: list[onnx.ValueInfoProto]) -> None:
    """Let a repeated field hold other values."""
    del held[:]
    held.extend(values)


def name_everything(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: its first output's where it has none."""
    names = TakenNames()
    for node in graph.node:
        node.name = names.fresh(node.name or f"{node.op_type}/{next((o for o in node.output if o), '')}")


def light(proto: onnx.ModelProto, scratch: Scratch | None) -> onnx.ModelProto:
    """The model itself; a large one that has its weights in memory with them in ``scratch``."""
    held = sum(len(t.raw_data) for t in proto.graph.initializer)
    if scratch is None or held < outside.LARGE:
        return proto
    with scratch.folder(held) as folder:
        return spilled(proto, folder)


def _fold(proto: onnx.ModelProto, path: str, without: list[str], scratch: Scratch | None) -> onnx.ModelProto:
    folded = _optimized(proto, path, [*RENAMING, *without], scratch)
    known = {n.domain for n in proto.graph.node}
    if any(n.domain not in known and n.domain not in STANDARD for n in folded.graph.node):
        folded = _optimized(proto, path, [*RENAMING, *without, *PRIVATE_FUSIONS], scratch)
    return folded


def _fold_constants(proto: onnx.ModelProto, scratch: Scratch | None) -> onnx.ModelProto | None:
    """Write down what a model computes from constants alone; returns it as ONNX Runtime folds it.

    In float32 a float16 model's would not be rounded the same; without known shapes the converter cannot tell which
    axis of an old Softmax is the last.
    """
    try:
        folded = _optimized(proto, "", RENAMING, scratch)
    except ModelError:  # only a newer opset loads
        return None
    made = {o for n in proto.graph.node for o in n.output}
    held = {t.name: t for t in folded.graph.initializer if t.name in made}
    kept = [n for n in proto.graph.node if not held or not all(o in held for o in n.output)]
    if len(kept) < len(proto.graph.node):
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        proto.graph.initializer.extend(held.values())
    return folded


def _optimized(proto: onnx.ModelProto, path: str, without: list[str], scratch: Scratch | None) -> onnx.ModelProto:
    weights = sum(map(size_of, filter(is_outside, proto.graph.initializer)))
    apart = scratch is not None and weights > 0
    with scratch.folder(weights) if scratch and apart else temporary_folder(proto.ByteSize()) as folder:
        result = folder / f"folded-{len(list(folder.iterdir()))}.onnx"
        options = runtime.options(threads=1, level="basic")
        options.optimized_model_filepath = str(result)
        if apart:
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", f"{result.name}.data"
            )
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            runtime.session(proto, session_options=options, disabled_optimizers=without)
        except ModelError as error:
            raise ModelError([replace(p, path=path) for p in error.problems]) from error
        return load(result) if apart else onnx.load(result)


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
