"""Operators that ONNX Runtime wrote out while folding, and names it could not remove: put back as they were.

ONNX defines some operators by a function body (HardSwish, Mish, GroupNormalization, ...); ONNX Runtime replaces them by
it even at ORT_ENABLE_BASIC. People name their layers by the operator, and a normalization must not be quantized step
by step, so the one node comes back. At run time ONNX Runtime writes it out again: the results are the same to the bit.
"""

from __future__ import annotations

from typing import Any

from onnx import AttributeProto, GraphProto, NodeProto, defs

PREFIX = "_inlfunc_"


def restore_functions(before: GraphProto, after: GraphProto, opset: int) -> None:
    """Replace in ``after`` every written-out body by the node that ``before`` has for it.

    A node comes back where its output still exists, its body reads one computed tensor (the others are constants of
    the given model), and nothing else reads from the body.
    """
    for node in before.node:
        if node.domain in ("", "ai.onnx") and len([o for o in node.output if o]) == 1 and _is_function(node, opset):
            _restore(node, before, after)
    used = {i for n in after.node for i in _reads(n)} | {o.name for o in after.output}
    for held in (after.initializer, after.value_info):
        kept = [t for t in held if t.name in used or not t.name.startswith(PREFIX)]
        if len(kept) != len(held):
            del held[:]
            held.extend(kept)  # type: ignore[arg-type]


def drop_identities(graph: GraphProto) -> None:
    """Let what an Identity or Dropout only renames to a graph output have the output's name from the start."""
    outputs = {o.name for o in graph.output}
    producers = {o: n for n in graph.node for o in n.output if o}
    inner = {r for n in graph.node for r in _inner_reads(n)}
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


def _restore(node: NodeProto, before: GraphProto, after: GraphProto) -> None:
    producers = {o: n for n in after.node for o in n.output if o}
    name = next(o for o in node.output if o)
    last = producers.get(name)
    if last is None or last.op_type == node.op_type:
        return
    body = _body(last, producers)
    inside = {o for n in body for o in n.output}
    constants = {t.name: t for t in before.initializer}
    known = {t.name for t in after.initializer}
    entries = {i for n in body for i in n.input if i and i not in inside and i not in known}
    others = [n for n in after.node if not any(n is b for b in body)]
    taken = {i for n in others for i in _reads(n)} | {o.name for o in after.output}
    if len(body) < 2 or len(entries) != 1 or (inside - {name}) & taken:
        return
    if not all(i in constants for i in node.input[1:] if i):
        return
    restored = NodeProto()
    restored.CopyFrom(node)
    restored.input[0] = entries.pop()
    place = next(i for i, n in enumerate(after.node) if n is last)
    kept = [n for n in after.node[:place] if not any(n is b for b in body)]
    tail = list(after.node[place + 1 :])
    del after.node[:]
    after.node.extend([*kept, restored, *tail])
    after.initializer.extend(constants[i] for i in node.input[1:] if i and i not in known)


def _body(last: NodeProto, producers: dict[str, NodeProto]) -> list[NodeProto]:
    """``last`` and the nodes before it whose names ONNX Runtime made while writing a function out."""
    found, todo = [last], list(last.input)
    while todo:
        tensor = todo.pop()
        node = producers.get(tensor)
        if tensor.startswith(PREFIX) and node is not None and not any(node is f for f in found):
            found.append(node)
            todo += node.input
    return found


def _reads(node: NodeProto) -> list[str]:
    return [*node.input, *_inner_reads(node)]


def _inner_reads(node: NodeProto) -> list[str]:
    """Every name that a node's subgraphs read, their own tensors included."""
    graphs = [g for a in node.attribute for g in _graphs(a)]
    return [r for g in graphs for r in [*(i for n in g.node for i in _reads(n)), *(o.name for o in g.output)]]


def _graphs(attribute: AttributeProto) -> list[GraphProto]:
    return [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)


def _forget(graph: GraphProto, tensor: str) -> None:
    kept = [v for v in graph.value_info if v.name != tensor]
    del graph.value_info[:]
    graph.value_info.extend(kept)
