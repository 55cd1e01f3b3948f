"""What onnx's converter of opsets leaves undone or does wrong, put right behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.edit import attribute, graphs

SCALES = 2  # the input of a Resize


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


def _scales(node: NodeProto, constants: Mapping[str, TensorProto]) -> NDArray[np.float32]:
    """The scales of a Resize, empty where they are computed."""
    name = node.input[SCALES] if len(node.input) > SCALES else ""
    return numpy_helper.to_array(constants[name]) if name in constants else np.empty(0, np.float32)


def _shrinks(scales: NDArray[np.float32]) -> bool:
    return bool(scales.size and (scales <= 1).all() and (scales < 1).any())
