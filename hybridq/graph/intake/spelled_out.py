"""Attributes written out that operators may leave to a rule, where what reads the model later gets the rule wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.edit import TakenNames, attribute, drop_unread_constants, graphs

Shapes = Mapping[str, Sequence[int]]


def spell_out_sides(graph: GraphProto) -> None:
    """Say of every STFT that says nothing that it is one-sided: onnx's inference of shapes takes it for two-sided.

    To be done before any shape is inferred.
    """
    for node in (n for g in graphs(graph) for n in g.node):
        if node.op_type == "STFT" and attribute(node, "onesided") is None:
            node.attribute.append(helper.make_attribute("onesided", 1))


def spell_out(graph: GraphProto) -> None:
    """Write out, in place, the axes of MeanVarianceNormalization and all axes of Resize and Pad.

    Without axes onnx's own checker fails on the definition of the former. ONNX Runtime, which turns integer
    convolutions to channels last, takes the numbers of a Resize or Pad of some axes for those of all and refuses the
    model.
    """
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.value_info)}
    constants, taken = {t.name: t for t in graph.initializer}, TakenNames.of(graph)
    for node in graph.node:
        if node.op_type == "MeanVarianceNormalization" and attribute(node, "axes") is None:
            node.attribute.append(helper.make_attribute("axes", [0, 2, 3]))
        elif node.op_type == "Resize" and attribute(node, "axes"):
            _all_axes(node, shapes.get(node.input[0], ()), constants, graph, taken)
        elif node.op_type == "Pad" and len(node.input) > 3 and node.input[3]:
            _all_pads(node, len(shapes.get(node.input[0], ())), constants, graph, taken)
    drop_unread_constants(graph)


def _all_axes(
    node: NodeProto, shape: Sequence[int], constants: Mapping[str, TensorProto], graph: GraphProto, taken: TakenNames
) -> None:
    """A Resize of some axes as one of all; left as it is where a number is computed or a size is not known.

    The other axes keep their size: scale 1, the region 0..1.
    """
    axes = [int(a) % len(shape) for a in attribute(node, "axes")] if shape else []
    others = [n for a, n in enumerate(shape) if a not in axes]
    given = {i: name for i, name in enumerate(node.input) if i and name}
    fits = attribute(node, "keep_aspect_ratio_policy", b"stretch") == b"stretch" and (3 not in given or all(others))
    if not axes or not fits or not constants.keys() >= set(given.values()):
        return
    rank = len(shape)
    for i, name in given.items():
        values = numpy_helper.to_array(constants[name])
        if not values.size:  # as good as absent
            continue
        whole = {1: [0] * rank + [1] * rank, 2: [1] * rank, 3: list(shape)}[i]
        full = np.array(whole, values.dtype)
        full[[*axes, *(rank + a for a in axes)][: len(values)]] = values
        node.input[i] = taken.fresh(f"{name}/all_axes")
        graph.initializer.append(numpy_helper.from_array(full, node.input[i]))
    kept = [a for a in node.attribute if a.name != "axes"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _all_pads(
    node: NodeProto, rank: int, constants: Mapping[str, TensorProto], graph: GraphProto, taken: TakenNames
) -> None:
    """A Pad of some axes as one of all; left as it is where a number is computed or the rank is not known."""
    if not rank or not {node.input[1], node.input[3]} <= constants.keys():
        return
    pads, axes = (numpy_helper.to_array(constants[node.input[i]]) for i in (1, 3))
    full = np.zeros((2, rank), np.int64)
    full[:, axes % rank] = pads.reshape(2, -1)
    kept = [node.input[0], taken.fresh(f"{node.input[1]}/all_axes"), *filter(None, [node.input[2]])]
    graph.initializer.append(numpy_helper.from_array(full.reshape(-1), kept[1]))
    del node.input[:]
    node.input.extend(kept)
