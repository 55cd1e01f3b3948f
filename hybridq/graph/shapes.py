"""The shapes that tensors really have: measured on samples where the model leaves axes, or their number, open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx
from onnx import TensorProto, helper

from hybridq.graph import analysis, edit, runtime
from hybridq.graph.intake.canonical import skeleton
from hybridq.graph.model import Model, Tensor
from hybridq.graph.runtime import Feed

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def open_tensors(model: Model) -> list[str]:
    """Tensors of the main graph, inputs too, of which the model does not say every axis."""
    made = [*model.inputs, *(o for n in model.proto.graph.node for o in n.output if o)]
    return [n for n in made if n in model.tensors and not _is_known(model.tensors[n])]


def _is_known(tensor: Tensor) -> bool:
    return tensor.shape is not None and all(isinstance(d, int) for d in tensor.shape)


def measure_shapes(proto: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed], threads: int) -> list[Shapes]:
    """The shapes of tensors on each of some samples; only shapes leave ONNX Runtime."""
    if not names:
        return [{} for _ in feeds]
    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    free = edit.TakenNames.of(asked.graph)
    made = [free.fresh(f"{name}/shape") for name in names]
    asked.graph.node.extend(helper.make_node("Shape", [n], [m]) for n, m in zip(names, made, strict=True))
    del asked.graph.output[:]
    asked.graph.output.extend(helper.make_tensor_value_info(m, TensorProto.INT64, None) for m in made)
    one = runtime.session(asked, threads=threads)
    found = (runtime.run(one, feed, made) for feed in feeds)
    return [{n: tuple(int(d) for d in s) for n, s in zip(names, shapes, strict=True)} for shapes in found]


def with_shapes(model: Model, proto: onnx.ModelProto, shapes: Sequence[Shapes], counts: Sequence[int]) -> Model:
    """The model with the multiply-accumulates of shapes that samples had, each ``counts`` times; and their ranks.

    A tensor whose number of axes was unknown gets it where all samples agree, in ``proto`` too; its axes stay open.
    """
    constants = {t.name: t for t in model.proto.graph.initializer}
    real = [{n: replace(model.tensors[n], shape=s) for n, s in found.items()} for found in shapes]
    views = [{**model.tensors, **seen} for seen in real]

    def macs(node: onnx.NodeProto) -> int:
        total = sum(n * analysis.macs(node, view, constants) for n, view in zip(counts, views, strict=True))
        return round(total / sum(counts))

    return replace(
        _ranked(model, proto, shapes),
        layers=tuple(replace(x, macs=macs(model.nodes[x.node])) for x in model.layers),
    )


def _ranked(model: Model, proto: onnx.ModelProto, shapes: Sequence[Shapes]) -> Model:
    ranks = {n: {len(s[n]) for s in shapes} for n in shapes[0] if model.tensors[n].shape is None}
    known = {n: ("?",) * r.pop() for n, r in ranks.items() if len(r) == 1}
    if not known:
        return model
    for value in [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]:
        if value.name in known:
            kind = value.type.tensor_type
            kind.shape.CopyFrom(
                onnx.TensorShapeProto(dim=[onnx.TensorShapeProto.Dimension() for _ in known[value.name]])
            )
    tensors = {n: replace(t, shape=known.get(n, t.shape)) for n, t in model.tensors.items()}
    return replace(model, proto=skeleton(proto), tensors=tensors)
