"""The given model to the canonical float graph.

Canonical: BatchNorm and constants folded, opset 21, unique names, no initializer among the inputs, every node named.
ONNX Runtime's basic optimization does the folding; it leaves operators of the standard domain only. A model in float16
computes in float32 here; its inputs and outputs keep their type.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, TensorProto, TypeProto, helper, numpy_helper, version_converter

from hybridq.errors import ModelError, Problem
from hybridq.graph import runtime
from hybridq.graph.edit import subgraphs
from hybridq.graph.inlined import drop_identities, restore_functions

OPSET = 21
IR_VERSION = 10
STANDARD = ("", "ai.onnx")
SMALL = 64  # initializers up to this many numbers are kept where decisions depend on them
BIG = 1 << 30  # bytes of weights above which protobuf's 2 GB limit comes near: weights travel in a file of their own
RUNTIME_TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
TYPED = ("to", "dtype", "output_datatype")  # attributes of standard operators that name an element type
HALVES = "hybridq.float16"  # metadata of a canonical model: what float16 became
PRIVATE_FUSIONS = ["GeluFusionL1", "LayerNormFusionL1", "BiasGeluFusion", "FastGeluFusion", "SkipLayerNormFusion"]


def read_model(path: Path) -> onnx.ModelProto:
    """Read and check a float ONNX model. Raises ModelError with what is wrong and what to do."""
    if not path.exists():
        raise ModelError("no such file", path=str(path))
    if path.is_dir():
        raise ModelError("this is a folder; give an .onnx file", path=str(path))
    if path.stat().st_size == 0:
        raise ModelError("not an ONNX model: the file is empty", path=str(path), hint="Copy or export it again.")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ModelError("not an ONNX model, or cut short", path=str(path), hint=_first_line(error)) from error
    if not proto.graph.node:
        raise ModelError("not an ONNX model: it has no nodes", path=str(path))
    if not _is_text(proto.graph):
        raise ModelError("damaged: a name in it is no text", path=str(path))
    missing = _missing_files(proto, path.parent)
    if missing:
        hint = f"Put {missing[0]} into the model's folder, or export the model with its weights inside."
        raise ModelError(f"its weights lie in another file, which is missing: {missing[0]}", path=str(path), hint=hint)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:
        raise ModelError(
            "its weights lie in another file that cannot be read", path=str(path), hint=str(error)
        ) from error
    _refuse_quantized(proto, path)
    return proto


def _missing_files(proto: onnx.ModelProto, folder: Path) -> list[str]:
    """The files that initializers lie in and that are not there."""
    lie = [t for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    named = dict.fromkeys(p.value for t in lie for p in t.external_data if p.key == "location")
    return [name for name in named if not (folder / name).exists()]


def _is_text(graph: onnx.GraphProto) -> bool:
    """Whether every name is text; protobuf gives bytes for what is not."""
    words = [w for n in graph.node for w in (n.op_type, n.name, n.domain, *n.input, *n.output)]
    words += [v.name for v in [*graph.input, *graph.output, *graph.value_info]] + [t.name for t in graph.initializer]
    return all(isinstance(w, str) for w in words)


def _refuse_quantized(proto: onnx.ModelProto, path: Path) -> None:
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or node.op_type.startswith("QLinear"):
            hint = "Give the float32 model it was made from."
            raise ModelError(f"the model is quantized already: {node.op_type} '{node.name}'", path=str(path), hint=hint)


def canonicalize(given: onnx.ModelProto, path: str = "") -> onnx.ModelProto:
    """The canonical graph of a float model, weights included; ``given`` is left as it is.

    Raises ModelError when the opset cannot be converted or ONNX Runtime refuses the model.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(given)
    _strip_initializer_inputs(proto)
    _name_everything(proto.graph)
    halves = _widen_halves(proto)
    try:
        before = _to_opset(proto, path)
        proto = _fold(before, path)
    except ModelError as error:
        if not halves:
            raise
        hint = "It is in float16, which hybridq computes in float32: give the float32 model it was made from."
        raise ModelError([replace(p, hint=f"{p.hint}\n{hint}".strip()) for p in error.problems]) from error
    restore_functions(before.graph, proto.graph, OPSET)
    if halves:
        _complete_types(proto)
        _drop_empty_casts(proto.graph)
        helper.set_model_props(proto, {HALVES: "float32"})
    drop_identities(proto.graph)
    _drop_unused_opsets(proto)
    _name_everything(proto.graph)
    _complete_types(proto)
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
    made = {o for n in proto.graph.node for o in n.output}
    kept = [v for v in proto.graph.value_info if v.name in made]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton(proto), data_prop=True).graph
    except Exception:  # a model may use operators that the inference does not know
        inferred = onnx.GraphProto()
    known = {v.name for v in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]}
    proto.graph.value_info.extend(v for v in inferred.value_info if v.name not in known)
    known |= {v.name for v in inferred.value_info}
    shaped = {v.name: v for v in inferred.output if v.type.tensor_type.HasField("shape")}
    bare = [o for o in proto.graph.output if _lacks_shape(o)]
    missing = [o for n in proto.graph.node for o in n.output if o and o not in known]
    missing += [o.name for o in bare if o.name not in shaped]
    told = {v.name: v for v in _types_of(proto, missing)} if missing else {}
    for output in bare:
        output.CopyFrom(shaped.get(output.name) or told.get(output.name) or output)
    proto.graph.value_info.extend(v for v in told.values() if v.name not in {o.name for o in bare})


def _lacks_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _types_of(proto: onnx.ModelProto, names: list[str]) -> list[onnx.ValueInfoProto]:
    """What ONNX Runtime, which knows its own operators, says of tensors that ONNX knows nothing about."""
    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    runtime.expose(asked, names)
    kinds = {f"tensor({k})": v for k, v in RUNTIME_TYPES.items()}
    try:
        outputs = runtime.session(asked, threads=1, level="none").get_outputs()
    except ModelError:
        return []
    found = [o for o in outputs if o.name in set(names) and o.type in kinds]
    return [onnx.helper.make_tensor_value_info(o.name, kinds[o.type], o.shape) for o in found]


def _strip_initializer_inputs(proto: onnx.ModelProto) -> None:
    initializers = {i.name for i in proto.graph.initializer}
    kept = [i for i in proto.graph.input if i.name not in initializers]
    if len(kept) != len(proto.graph.input):
        del proto.graph.input[:]
        proto.graph.input.extend(kept)


def _name_everything(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: its first output's where it has none."""
    taken: set[str] = set()
    for node in graph.node:
        wanted = node.name or f"{node.op_type}/{next((o for o in node.output if o), '')}"
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}_{count}"
        node.name = name
        taken.add(name)


def _widen_halves(proto: onnx.ModelProto) -> bool:
    """Let a float16 model compute in float32; returns whether there was anything in float16.

    float32 holds every float16 exactly, so nothing is lost but the rounding of results. The model's own float16 inputs
    and outputs keep their type, each behind one Cast; a model that gives sequences of float16 stays as it is.
    """
    graph = proto.graph
    halves = list(_halves(proto))
    ends = [v for v in [*graph.input, *graph.output] if any(_halves(v))]
    if not all(v.type.HasField("tensor_type") for v in ends):
        return False
    for found in halves:
        _widen(found)
    inputs = [v.name for v in graph.input if v in ends]
    outputs = [v.name for v in graph.output if v in ends and v.name not in inputs]
    taken = {o for n in graph.node for o in n.output} | {t.name for t in graph.initializer} | {v.name for v in ends}
    wide = {name: _free(f"{name}_float32", taken) for name in dict.fromkeys([*inputs, *outputs])}
    _rename(graph, wide)
    for value in ends:
        value.type.tensor_type.elem_type = HALF
    heads = [helper.make_node("Cast", [n], [wide[n]], to=FLOAT) for n in inputs]
    tails = [helper.make_node("Cast", [wide[n]], [n], to=HALF) for n in outputs]
    nodes = [*heads, *graph.node, *tails]
    del graph.node[:]
    graph.node.extend(nodes)
    return bool(halves)


def _halves(message: Message) -> Iterator[Message]:
    """Every tensor, type and attribute inside that says float16, in subgraphs and functions too."""
    types = (TypeProto.Tensor, TypeProto.SparseTensor)
    if (
        (isinstance(message, TensorProto) and message.data_type == HALF)
        or (isinstance(message, types) and message.elem_type == HALF)
        or (isinstance(message, AttributeProto) and message.name in TYPED and message.i == HALF)
    ):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _halves(part)


def _widen(found: Message) -> None:
    """Make float32 of one float16 tensor, type or attribute."""
    if isinstance(found, TensorProto):
        values = numpy_helper.to_array(found).astype(np.float32)
        found.CopyFrom(numpy_helper.from_array(values, found.name))
    elif isinstance(found, AttributeProto):
        found.i = FLOAT
    elif isinstance(found, TypeProto.Tensor | TypeProto.SparseTensor):
        found.elem_type = FLOAT


def _drop_empty_casts(graph: GraphProto) -> None:
    """Make an Identity of each Cast from float32 to float32 that ONNX Runtime left before a graph output."""
    floats = {v.name for v in [*graph.input, *graph.value_info] if v.type.tensor_type.elem_type == FLOAT}
    for node in graph.node:
        widens = node.op_type == "Cast" and any(a.name == "to" and a.i == FLOAT for a in node.attribute)
        if widens and node.input[0] in floats:
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, name=node.name))


def _rename(graph: GraphProto, names: dict[str, str]) -> None:
    """Give tensors other names wherever they are made or read; the graph's inputs and outputs keep theirs."""
    for node in graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
        for inner in subgraphs(node):
            _rename(inner, names)
            for output in inner.output:
                output.name = names.get(output.name, output.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)


def _free(name: str, taken: set[str]) -> str:
    """``name``, or one like it that no tensor has; it is taken then."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _to_opset(proto: onnx.ModelProto, path: str) -> onnx.ModelProto:
    version = next((o.version for o in proto.opset_import if o.domain in STANDARD), 0)
    if version == 0:
        raise ModelError("the model imports no standard operators", path=path)
    if version != OPSET:
        proto.ir_version = IR_VERSION  # older ones list initializers among the inputs, which the converter insists on
        try:
            proto = version_converter.convert_version(proto, OPSET)
        except Exception as error:
            raise ModelError(
                f"opset {version} cannot be converted to {OPSET}: {_first_line(error)}",
                path=path,
                hint="Export the model again with opset 13 to 21.",
            ) from error
    proto.ir_version = IR_VERSION
    return proto


def _fold(proto: onnx.ModelProto, path: str) -> onnx.ModelProto:
    folded = _optimized(proto, path, [])
    known = {n.domain for n in proto.graph.node}
    if any(n.domain not in known and n.domain not in STANDARD for n in folded.graph.node):
        folded = _optimized(proto, path, PRIVATE_FUSIONS)
    return folded


def _optimized(proto: onnx.ModelProto, path: str, without: list[str]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "given.onnx", Path(folder) / "folded.onnx"
        options = runtime.options(threads=1, level="basic")
        options.optimized_model_filepath = str(result)
        big = proto.ByteSize() > BIG
        if big:
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "folded.data")
            onnx.save(proto, source, save_as_external_data=True, location="given.data")
        try:
            runtime.session(source if big else proto, session_options=options, disabled_optimizers=without)
        except ModelError as error:
            raise ModelError(error.problems[0].message, path=path) from error
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


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
