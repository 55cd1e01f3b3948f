"""Attributes written out that operators may leave to a rule, where what reads the model later gets the rule wrong."""

from __future__ import annotations

from onnx import GraphProto, helper

from hybridq.graph.edit import attribute, graphs


def spell_out_sides(graph: GraphProto) -> None:
    """Say of every STFT that says nothing that it is one-sided: onnx's inference of shapes takes it for two-sided.

    To be done before any shape is inferred.
    """
    for node in (n for g in graphs(graph) for n in g.node):
        if node.op_type == "STFT" and attribute(node, "onesided") is None:
            node.attribute.append(helper.make_attribute("onesided", 1))


def spell_out(graph: GraphProto) -> None:
    """Write out, in place, the axes of MeanVarianceNormalization: without, onnx's checker fails on its definition."""
    for node in graph.node:
        if node.op_type == "MeanVarianceNormalization" and attribute(node, "axes") is None:
            node.attribute.append(helper.make_attribute("axes", [0, 2, 3]))
