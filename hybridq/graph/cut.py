"""Cutting a part out of the given model: the first remedy for a detector is to cut its post-processing off."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import onnx

from hybridq.errors import ModelError, Problem
from hybridq.graph.edit import inputs_of, producers, reads


def cut(given: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str], path: str = "") -> onnx.ModelProto:
    """The part of a model between ``inputs`` and ``outputs`` (tensor names; empty: the model's own).

    Raises ModelError for unknown names, with the nearest ones, and for inputs that do not cut every way in.
    """
    graph = given.graph
    own_inputs = [i.name for i in inputs_of(graph)]
    produced = producers(graph.node)
    _check_names(inputs, outputs, [*own_inputs, *produced], path)
    starts, ends = list(inputs) or own_inputs, list(outputs) or [o.name for o in graph.output]
    _raise([Problem(f"'{n}' is an input: nothing lies before it", path=path) for n in outputs if n in starts])
    nodes = _between(produced, starts, ends)
    read = {i for n in nodes for i in reads(n) if i} | set(ends)
    open_ends = read & set(own_inputs) - set(starts)
    if inputs and open_ends:
        missing = ", ".join(sorted(open_ends))
        raise ModelError(f"the outputs also depend on the input(s) {missing}", path=path, hint="Name these inputs too.")
    values = _typed(given, ends, path)
    return _part(given, nodes, read, [values[n] for n in starts if n in read], [values[n] for n in ends])


def _part(
    given: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    read: set[str],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """The model of some of the given nodes, in their order, with the initializers that are ``read``."""
    part = onnx.ModelProto()
    part.CopyFrom(given)
    for name in ("node", "input", "output", "initializer"):
        part.graph.ClearField(name)
    kept = {id(n) for n in nodes}
    part.graph.node.extend(n for n in given.graph.node if id(n) in kept)
    part.graph.input.extend(inputs)
    part.graph.output.extend(outputs)
    part.graph.initializer.extend(t for t in given.graph.initializer if t.name in read)
    return part


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise ModelError(problems)


def _check_names(inputs: Sequence[str], outputs: Sequence[str], known: list[str], path: str) -> None:
    there = set(known)
    _raise([_unknown(n, known, path) for n in [*inputs, *outputs] if n not in there])


def _typed(given: onnx.ModelProto, ends: list[str], path: str) -> dict[str, onnx.ValueInfoProto]:
    """Type and shape of every tensor that has them. Raises ModelError where one of ``ends`` has none."""
    typed = onnx.shape_inference.infer_shapes(given).graph
    values = {v.name: v for v in [*typed.input, *typed.output, *typed.value_info]}
    said = "the type of '{}' is unknown, so it cannot be cut here"
    _raise([Problem(said.format(n), path=path) for n in ends if n not in values])
    return values


def _between(produced: dict[str, onnx.NodeProto], starts: list[str], ends: list[str]) -> list[onnx.NodeProto]:
    found: dict[int, onnx.NodeProto] = {}
    todo = [e for e in ends if e not in starts]
    while todo:
        node = produced.get(todo.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            todo += [i for i in reads(node) if i and i not in starts]
    return list(found.values())


def _unknown(name: str, known: list[str], path: str) -> Problem:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean '{near[0]}'?" if near else "Give the name of a tensor: an input, or some node's output."
    return Problem(f"the model has no tensor '{name}'", path=path, hint=hint)
