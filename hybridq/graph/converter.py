"""What onnx's converter of opsets leaves undone or does wrong, put right behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.edit import Names, attribute, graphs, producers, rename

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

    It took rows of all axes from its own on; the converter writes Flatten, a Softmax of another name, and a Reshape. A
    name that an output has must keep its shape: the Softmax writes ``NAME/rows`` then.
    """
    names = Names.of(whole)
    for graph in graphs(whole):
        outputs, made, new = {o.name for o in graph.output}, producers(graph.node), dict[str, str]()
        for node in graph.node:
            name = node.output[0]
            if node.op_type == "Reshape" and node.input[0] == f"{name}{MADE}" and node.input[0] in made:
                flat, shape = made[node.input[0]].input[0], node.input[1]
                new |= {flat: names.fresh(f"{name}/flat"), shape: names.fresh(f"{name}/shape")}
                own = names.fresh(f"{name}/rows") if name in outputs else name
                new |= {node.input[0]: own} | ({} if name in outputs else {name: names.fresh(f"{name}/shaped")})
        rename(graph, new)


def _scales(node: NodeProto, constants: Mapping[str, TensorProto]) -> NDArray[np.float32]:
    """The scales of a Resize, empty where they are computed."""
    name = node.input[SCALES] if len(node.input) > SCALES else ""
    return numpy_helper.to_array(constants[name]) if name in constants else np.empty(0, np.float32)


def _shrinks(scales: NDArray[np.float32]) -> bool:
    return bool(scales.size and (scales <= 1).all() and (scales < 1).any())
