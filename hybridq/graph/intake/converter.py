"""What onnx's converter of opsets leaves undone or does wrong, put right behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.edit import TakenNames, attribute, graphs, producers, rename

SCALES = 2  # the input of a Resize
MADE = "_intermediate"  # what the converter puts behind the name of a Softmax that it rewrites


def keep_coordinates(graph: GraphProto) -> None:
    """Let each Resize of a model from before opset 11 find its pixels as it did.

    Upsample and the first Resize scaled from the corner and cut places down (where the picture shrinks, up); the
    converter leaves them the newer defaults, which scale from the middle and round.
    """
    for held in graphs(graph):
        constants = {t.name: t for t in held.initializer}
        constants |= {n.output[0]: n.attribute[0].t for n in held.node if n.op_type == "Constant"}
        for node in held.node:
            if node.op_type == "Resize" and attribute(node, "coordinate_transformation_mode") is None:
                rounding = "ceil" if _shrinks(_scales(node, constants)) else "floor"
                node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
                node.attribute.append(helper.make_attribute("nearest_mode", rounding))


def keep_names(whole: GraphProto) -> None:
    """Give each Softmax of a model from before opset 13 back the tensor that it wrote.

    It took rows of all axes from its own on; the converter writes Flatten, a Softmax of another name, and a Reshape.
    Where the axes behind are of size 1, one along its own axis says the same. Otherwise the rows take the name; where
    an output has it, which must keep its shape, they take ``NAME/rows``.
    """
    names = TakenNames.of(whole)
    for graph in graphs(whole):
        made, shapes, new = producers(graph.node), _shapes(graph), dict[str, str]()
        outputs = {o.name for o in graph.output}
        for node in list(graph.node):
            name = node.output[0]
            rows = made.get(f"{name}{MADE}")
            if node.op_type != "Reshape" or rows is None or node.input[0] != rows.output[0]:
                continue
            flat = made[rows.input[0]]
            axis, shape = int(attribute(flat, "axis", 1)), shapes.get(flat.input[0])
            if shape is not None and all(size == 1 for size in shape[axis + 1 :]):
                _along_one_axis(graph, (rows, flat, made[node.input[1]], node), axis)
            else:
                free = names.fresh
                new |= {flat.output[0]: free(f"{name}/flat"), node.input[1]: free(f"{name}/shape")}
                new |= {rows.output[0]: free(f"{name}/rows")} if name in outputs else {}
                new |= {} if name in outputs else {rows.output[0]: name, name: free(f"{name}/shaped")}
        rename(graph, new)


def _along_one_axis(graph: GraphProto, nodes: tuple[NodeProto, ...], axis: int) -> None:
    """One Softmax for itself, the Flatten before it, and the Shape and the Reshape behind."""
    rows, flat, shape, back = nodes
    rows.input[0], rows.output[0] = flat.input[0], back.output[0]
    next(a for a in rows.attribute if a.name == "axis").i = axis
    for node in (flat, shape, back):
        graph.node.remove(node)


def _shapes(graph: GraphProto) -> dict[str, tuple[int | str, ...]]:
    """What is known of shapes; an axis that is not is a word."""
    values = (*graph.input, *graph.value_info, *graph.output)
    kinds = {v.name: v.type.tensor_type for v in values if v.type.tensor_type.HasField("shape")}
    return {n: tuple(d.dim_value if d.HasField("dim_value") else "?" for d in k.shape.dim) for n, k in kinds.items()}


def _scales(node: NodeProto, constants: Mapping[str, TensorProto]) -> NDArray[np.float32]:
    """The scales of a Resize, empty where they are computed."""
    name = node.input[SCALES] if len(node.input) > SCALES else ""
    return numpy_helper.to_array(constants[name]) if name in constants else np.empty(0, np.float32)


def _shrinks(scales: NDArray[np.float32]) -> bool:
    return bool(scales.size and (scales <= 1).all() and (scales < 1).any())
