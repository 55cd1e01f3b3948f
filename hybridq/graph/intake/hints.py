"""Shapes that a model tells of its tensors: hints, right as a rule, which ONNX Runtime repeats without a look."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, ValueInfoProto

from hybridq.graph.edit import graphs


def forget_inferred(found: GraphProto, given: GraphProto) -> None:
    """Leave of a converted graph's hints only those that the given one has.

    The converter adds onnx's own, of which some are wrong and ONNX Runtime refuses the model then: the bins of an STFT
    that is one-sided by default, for one.
    """
    for graph in graphs(found):
        del graph.value_info[:]
    found.value_info.extend(given.value_info)


def drop_wrong(proto: ModelProto, bare: ModelProto) -> None:
    """Drop the hints that contradict the operators, as they stay behind where a person edits a graph.

    ``bare``: a copy to infer shapes with; what weights it holds does not matter. An output keeps its type.
    """
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except Exception:  # a model may use operators that the inference does not know
        return
    known = {v.name: v for v in [*inferred.value_info, *inferred.output]}
    right = [v for v in proto.graph.value_info if not _contradicts(v, known.get(v.name))]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(right)
    for output in proto.graph.output:
        if _contradicts(output, known.get(output.name)):
            output.type.tensor_type.ClearField("shape")


def _contradicts(told: ValueInfoProto, inferred: ValueInfoProto | None) -> bool:
    """Whether two shapes of a tensor cannot both be right."""
    if inferred is None or not all(v.type.tensor_type.HasField("shape") for v in (told, inferred)):
        return False
    a, b = (list(v.type.tensor_type.shape.dim) for v in (told, inferred))
    if len(a) != len(b):
        return True
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x.HasField("dim_value") and y.HasField("dim_value")]
    return any(x.dim_value != y.dim_value for x, y in pairs)
