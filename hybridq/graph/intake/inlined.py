"""Operators that ONNX Runtime wrote out while folding, and names it could not remove: put back as they were.

ONNX defines some operators by a function body (HardSwish, Mish, GroupNormalization, ...); ONNX Runtime replaces them by
it even at ORT_ENABLE_BASIC. People name their layers by the operator, and a normalization must not be quantized step
by step, so the one node comes back. At run time ONNX Runtime writes it out again: the results are the same to the bit.
"""

from __future__ import annotations

import re
from typing import Any

from onnx import GraphProto, NodeProto, defs

from hybridq.graph import edit
from hybridq.graph.operators import Interval, row_of

PREFIX = "_inlfunc_"
IF = "_if_"
BRANCH = re.compile(f"^({IF}(then|else)_branch_)+")  # what ONNX Runtime puts before the names in a branch


def restore_functions(before: GraphProto, after: GraphProto, opset: int) -> None:
    """Replace in ``after`` every written-out body by the node that ``before`` has for it.

    A node comes back where its outputs are made by a body and what it reads still exists under its name, or is a
    constant of the given model.
    """
    found = _WrittenOut(before, after)
    for node in before.node:
        if node.domain in ("", "ai.onnx") and _is_function(node, opset):
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
    for node in [n for n in graph.node if row_of(n).interval is Interval.SAME]:
        source, name = node.input[0], node.output[0]
        free = source in producers and source not in outputs and source not in inner
        if free and name in outputs and not any(node.output[1:]):
            graph.node.remove(node)
            for other in graph.node:
                other.input[:] = [name if i == source else i for i in other.input]
                other.output[:] = [name if o == source else o for o in other.output]
            producers[name] = producers.pop(source)
            _forget(graph, source)


def drop_prefixes(graph: GraphProto) -> None:
    """Give what stood in the branch of an If of constant condition the name that it had there, where it is free."""
    taken = edit.TakenNames.of(graph).taken
    new = {}
    for name in [o for n in graph.node for o in n.output if o.startswith(IF)]:
        plain = BRANCH.sub("", name)
        if plain not in taken:
            new[name] = plain
            taken.add(plain)
    edit.rename(graph, new)
    for node in graph.node:
        if node.name.startswith(IF):  # the operator's word follows, and no name that anybody gave
            node.name = ""


def _is_function(node: NodeProto, opset: int) -> bool:
    if not defs.has(node.op_type, opset, ""):
        return False
    schema: Any = defs.get_schema(node.op_type, opset, "")  # its stub lacks these two
    return bool(schema.has_function or schema.has_context_dependent_function)


class _WrittenOut:
    """The graph with functions written out, what the graph before can tell of it, and what has been put back so far."""

    def __init__(self, before: GraphProto, after: GraphProto) -> None:
        self.graph, self.nodes = after, list(after.node)
        self.place = {o: i for i, n in enumerate(self.nodes) for o in n.output if o}
        self.held = {t.name for t in after.initializer} | {v.name for v in after.input}
        self.given = {t.name: t for t in before.initializer}
        self.same = {n.output[0]: n.input[0] for n in before.node if row_of(n).interval is Interval.SAME}
        self.read = {i for n in before.node for i in edit.reads(n)} | {o.name for o in before.output}
        self.back: dict[int, NodeProto] = {}  # by the place of a body's last node, what follows it

    def restore(self, node: NodeProto) -> None:
        """Put one node back, if a body stands for it and its inputs are there."""
        names = {o for o in node.output if o in self.place}
        if not names >= self.read.intersection(node.output):
            return  # what read the other was folded into the body
        makers = [self.nodes[self.place[o]] for o in names]
        written_out = any(r.startswith(PREFIX) for m in makers for r in edit.reads(m))
        if not written_out or any(m.op_type == node.op_type for m in makers):
            return
        inputs = [self._find(i) for i in node.input]
        if any(i is None for i in inputs):
            return
        restored = NodeProto()
        restored.CopyFrom(node)
        restored.input[:] = [i for i in inputs if i is not None]
        self.back[max(self.place[o] for o in names)] = restored
        for maker in makers:
            maker.output[:] = [f"{PREFIX}{o}" if o in names else o for o in maker.output]  # nothing reads it: it goes

    def _find(self, name: str) -> str | None:
        """Under which name a tensor of the graph before is there now; None where it is not."""
        while name and name not in self.place and name not in self.held:
            if name in self.given:
                self.graph.initializer.append(self.given[name])
                self.held.add(name)
            elif name in self.same:
                name = self.same[name]
            else:
                return None
        return name

    def finish(self) -> None:
        """Write the nodes, without those whose results nothing reads any more."""
        if not self.back:
            return
        whole = [n for i, node in enumerate(self.nodes) for n in [node, self.back.get(i)] if n is not None]
        read = {o.name for o in self.graph.output}
        kept = []
        for node in reversed(whole):
            if read.intersection(node.output):
                kept.append(node)
                read.update(edit.reads(node))
        nodes = [NodeProto.FromString(n.SerializeToString()) for n in edit.in_order(kept[::-1])]
        del self.graph.node[:]
        self.graph.node.extend(nodes)


def _forget(graph: GraphProto, tensor: str) -> None:
    kept = [v for v in graph.value_info if v.name != tensor]
    del graph.value_info[:]
    graph.value_info.extend(kept)
