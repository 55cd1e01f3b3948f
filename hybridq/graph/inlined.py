"""Operators that ONNX Runtime wrote out while folding, and names it could not remove: put back as they were.

ONNX defines some operators by a function body (HardSwish, Mish, GroupNormalization, ...); ONNX Runtime replaces them by
it even at ORT_ENABLE_BASIC. People name their layers by the operator, and a normalization must not be quantized step
by step, so the one node comes back. At run time ONNX Runtime writes it out again: the results are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, defs

from hybridq.graph import edit

PREFIX = "_inlfunc_"


def restore_functions(before: GraphProto, after: GraphProto, opset: int) -> None:
    """Replace in ``after`` every written-out body by the node that ``before`` has for it.

    A node comes back where its output still exists, its body reads one computed tensor (the others are constants of
    the given model), and nothing else reads from the body.
    """
    found = _WrittenOut(before, after)
    for node in before.node:
        if node.domain in ("", "ai.onnx") and len([o for o in node.output if o]) == 1 and _is_function(node, opset):
            found.restore(node)
    found.finish()
    used = {i for n in after.node for i in edit.reads(n)} | {o.name for o in after.output}
    for held in (after.initializer, after.value_info):
        kept = [t for t in held if t.name in used or not t.name.startswith(PREFIX)]
        if len(kept) != len(held):
            del held[:]
            held.extend(kept)  # type: ignore[arg-type]


def drop_identities(graph: GraphProto) -> None:
    """Let what an Identity or Dropout only renames to a graph output have the output's name from the start."""
    outputs = {o.name for o in graph.output}
    producers = edit.producers(graph.node)
    inner = {r for n in graph.node for r in edit.outer_reads(n)}
    for node in [n for n in graph.node if n.op_type in ("Identity", "Dropout") and n.domain in ("", "ai.onnx")]:
        source, name = node.input[0], node.output[0]
        free = source in producers and source not in outputs and source not in inner
        if free and name in outputs and not any(node.output[1:]):
            graph.node.remove(node)
            for other in graph.node:
                other.input[:] = [name if i == source else i for i in other.input]
                other.output[:] = [name if o == source else o for o in other.output]
            producers[name] = producers.pop(source)
            _forget(graph, source)


def _is_function(node: NodeProto, opset: int) -> bool:
    if not defs.has(node.op_type, opset, ""):
        return False
    schema: Any = defs.get_schema(node.op_type, opset, "")  # its stub lacks these two
    return bool(schema.has_function or schema.has_context_dependent_function)


class _WrittenOut:
    """The graph with functions written out, look-ups into it, and what has been put back so far."""

    def __init__(self, before: GraphProto, after: GraphProto) -> None:
        self.graph, self.nodes = after, list(after.node)
        self.producers, self.consumers = edit.producers(self.nodes), edit.consumers(self.nodes)
        self.outputs = {o.name for o in after.output}
        self.given = {t.name: t for t in before.initializer}
        self.known = {t.name for t in after.initializer}
        self.gone: set[int] = set()  # ids of the nodes of bodies
        self.back: dict[int, NodeProto] = {}  # by the id of a body's last node, what takes its place
        self.constants: dict[str, TensorProto] = {}

    def restore(self, node: NodeProto) -> None:
        """Put one node back, if its body is there and stands alone."""
        name = next(o for o in node.output if o)
        last = self.producers.get(name)
        if last is None or last.op_type == node.op_type:
            return
        body = _body(last, self.producers)
        inside = {o for n in body for o in n.output}
        entries = {i for n in body for i in n.input if i and i not in inside and i not in self.known}
        constants = [i for i in node.input[1:] if i]
        if len(body) < 2 or len(entries) != 1 or any(i not in self.given for i in constants):
            return
        ids = {id(n) for n in body}
        if any(o in self.outputs or self._read_elsewhere(o, ids) for o in inside - {name}):
            return
        restored = NodeProto()
        restored.CopyFrom(node)
        restored.input[0] = entries.pop()
        self.gone |= ids
        self.back[id(last)] = restored
        self.constants.update((i, self.given[i]) for i in constants if i not in self.known)
        self.known.update(constants)

    def _read_elsewhere(self, tensor: str, body: set[int]) -> bool:
        return any(id(n) not in body and id(n) not in self.gone for n in self.consumers.get(tensor, ()))

    def finish(self) -> None:
        """Write the graph anew."""
        if self.back:
            kept = [self.back.get(id(n), n) for n in self.nodes if id(n) in self.back or id(n) not in self.gone]
            del self.graph.node[:]
            self.graph.node.extend(kept)
            self.graph.initializer.extend(self.constants.values())


def _body(last: NodeProto, producers: Mapping[str, NodeProto]) -> list[NodeProto]:
    """``last`` and the nodes before it whose names ONNX Runtime made while writing a function out."""
    found, todo = [last], list(last.input)
    while todo:
        tensor = todo.pop()
        node = producers.get(tensor)
        if tensor.startswith(PREFIX) and node is not None and not any(node is f for f in found):
            found.append(node)
            todo += node.input
    return found


def _forget(graph: GraphProto, tensor: str) -> None:
    kept = [v for v in graph.value_info if v.name != tensor]
    del graph.value_info[:]
    graph.value_info.extend(kept)
