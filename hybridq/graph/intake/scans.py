"""Scan as opset 8 had it, with a batch before the sequence: today's over the batch, and in it one over the sequence.

onnx's converter of opsets takes the batch off the model's own inputs instead, and they no longer fit.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, ValueInfoProto, helper, version_converter

from hybridq.errors import ModelError
from hybridq.graph.edit import attribute, attributes, graphs

BATCHED = 8  # the opset of these Scans
HIDDEN = "hybridq.scan"  # a domain that the converter passes over


def without_batches(proto: ModelProto) -> ModelProto:
    """A model of opset 8 with Scans as one of opset 9; one without any stays as it is. Raises ModelError."""
    scans = [n for g in graphs(proto.graph) for n in g.node if n.op_type == "Scan"]
    if not scans:
        return proto
    for node in scans:
        node.domain = HIDDEN
    proto.opset_import.append(helper.make_opsetid(HIDDEN, 1))
    found: ModelProto = version_converter.convert_version(proto, BATCHED + 1)
    for graph in reversed(list(graphs(found.graph))):  # those inside first
        for node in graph.node:
            if node.domain == HIDDEN:
                node.CopyFrom(_over_the_batch(node))
    kept = [o for o in found.opset_import if o.domain != HIDDEN]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    return found


def _over_the_batch(node: NodeProto) -> NodeProto:
    """The Scan of a batch: for each of its rows, one of that row's sequences."""
    if node.input[0]:
        hint = "Give every sequence its full length and leave the input away."
        raise ModelError(f"Scan '{node.name or node.output[0]}' is given the lengths of sequences", hint=hint)
    given, body = attributes(node), attribute(node, "body")
    inputs, count = list(node.input[1:]), int(given["num_scan_inputs"])
    own = [f"{node.output[0]}/{name}" for name in inputs]
    made = [f"{node.output[0]}/{value.name}" for value in body.output]
    row = helper.make_node("Scan", own, made, name=f"{node.output[0]}/row", body=body, num_scan_inputs=count)
    if "directions" in given:
        row.attribute.append(helper.make_attribute("scan_input_directions", given["directions"]))
    reads = [_open(n, v) for n, v in zip(own, body.input, strict=True)]
    writes = [_open(n, v) for n, v in zip(made, body.output, strict=True)]
    rows = helper.make_graph([row], f"{node.output[0]}/rows", reads, writes)
    outputs = [*node.output, *made[len(node.output) :]]
    return helper.make_node("Scan", inputs, outputs, name=node.name, body=rows, num_scan_inputs=len(inputs))


def _open(name: str, value: ValueInfoProto) -> ValueInfoProto:
    """A tensor of the type of another, of any shape."""
    return helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, None)
