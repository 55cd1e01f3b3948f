"""Steps of recurrent models, many at a time: a Scan runs them inside ONNX Runtime, on states that never leave it.

Its body is the model itself. It gives every step's tensors whole, which costs less than reducing small ones each; what
the instrumented graph would have said of each step is worked out here for a block of steps at once, in the same form:
``calibrate`` records it as it records a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, ValueInfoProto, helper

from hybridq.calibration.instrument import SUBSAMPLE, Program
from hybridq.errors import ModelError
from hybridq.graph import runtime
from hybridq.graph.edit import inputs_of, reads
from hybridq.graph.outside import any_outside
from hybridq.graph.rolling import begins
from hybridq.graph.runtime import Feed, RuntimeModelError, Session

MOST, NUMBERS = 256, 1 << 21  # steps of a block, and how many numbers its tensors may have together
OURS = "steps/"  # what the names outside the body begin with
FIRST, ALL, LAST, EACH = (f"{OURS}{what}/" for what in ("first", "all", "last", "each"))
Array = NDArray[Any]
Step = tuple[int, Feed]  # number, feed


def looping(program: Program, threads: int) -> Session | None:
    """A session that runs many steps; None where a program's tensors are large, or of sizes that are not known."""
    widths = [c.width for o in program.outputs if o.kind == "sample" for c in o.columns]
    if not program.states or not widths or not all(0 < w < SUBSAMPLE // 2 for w in widths):
        return None
    proto = onnx.load_model_from_string(program.model)
    inputs = {value.name: value for value in inputs_of(proto.graph)}
    known = all(_is_fixed(inputs[name]) for name in program.states)
    if not known or len(inputs) == len(program.states) or any_outside(proto.graph):
        return None
    try:
        return runtime.session(_scan(proto, inputs, program), threads=threads)
    except RuntimeModelError:
        return None


def loops(one: Session) -> bool:
    """Whether a session is one of ``looping``."""
    return any(found.name.startswith(OURS) for found in one.get_inputs())


def blocks(program: Program, one: Session, steps: Iterable[Step]) -> Iterator[tuple[int, Feed, list[Array]]]:
    """Runs of steps: the number of the first, what was fed, and what an instrumented graph would say, a row a step.

    Raises ModelError where a sequence has no first step.
    """
    loop = _Loop(program, one)
    number, parts = 0, list[tuple[Feed, Array]]()
    for first, given in _runs(steps, loop):
        part = loop.run(given)
        count = sum(len(rows) for _, rows in parts)
        if parts and (first != number + count or count + len(given) > loop.most or _form(part) != _form(parts[0])):
            yield number, *_joined(parts, loop)
            parts = []
        number = number if parts else first
        parts.append(part)
    if parts:
        yield number, *_joined(parts, loop)


def _form(part: tuple[Feed, Array]) -> list[tuple[int, ...]]:
    """The shapes of a step's inputs and of its tensors end to end."""
    return [x.shape[1:] for x in (*part[0].values(), part[1])]


def _joined(parts: Sequence[tuple[Feed, Array]], loop: _Loop) -> tuple[Feed, list[Array]]:
    """Runs as one block: short sequences are recorded together."""
    fed = {name: np.concatenate([own[name] for own, _ in parts]) for name in parts[0][0]}
    return fed, loop.said(np.concatenate([rows for _, rows in parts]))


def _runs(steps: Iterable[Step], loop: _Loop) -> Iterator[tuple[int, list[Feed]]]:
    """Consecutive steps of one sequence whose inputs have one shape, with the number of the first."""
    states, others, most = loop.program.states, loop.others, loop.most
    first, held, before = 0, list[Feed](), list[tuple[int, ...]]()
    for number, feed in steps:
        shapes = [feed[name].shape for name in others]
        follows = number == first + len(held) and len(held) < most and shapes == before and not begins(feed, states)
        if held and not follows:
            yield first, held
            held = []
        first, before = first if held else number, shapes
        held.append(feed)
    if held:
        yield first, held


@dataclass
class _Loop:
    """Runs steps and keeps the states that the next ones take; ``others`` are the inputs that are no states."""

    program: Program
    one: Session
    states: Mapping[str, Array] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        inputs = [found.name for found in self.one.get_inputs()]
        self.others = [name.removeprefix(ALL) for name in inputs if name.startswith(ALL)]
        self.outputs = [found.name for found in self.one.get_outputs()]
        widths = sum(c.width for o in self.program.outputs if o.kind == "sample" for c in o.columns)
        self.most = max(1, min(MOST, NUMBERS // max(widths, 1)))

    def run(self, given: list[Feed]) -> tuple[Feed, Array]:
        """What was fed, states included, and the tensors end to end: a row a step."""
        states = self.program.states
        first = given[0] if begins(given[0], states) else self.states
        if any(name not in first for name in states):
            raise ModelError("a sequence begins with a step that has no states")
        fed = {name: np.stack([step[name] for step in given]) for name in self.others}
        feed = {FIRST + name: first[name] for name in states} | {ALL + name: x for name, x in fed.items()}
        found = dict(zip(self.outputs, runtime.run(self.one, feed, self.outputs), strict=True))
        self.states = {name: found[LAST + name] for name in states}
        fed |= {name: np.concatenate([first[name][None], found[EACH + o][:-1]]) for name, o in states.items()}
        values = [found[EACH + name].reshape(len(given), -1) for name in _tensors(self.program)]
        self.sizes = [x.shape[1] for x in values]
        return fed, np.concatenate(values, axis=1)

    def said(self, rows: Array) -> list[Array]:
        """Every output of the instrumented graph: (steps, columns)."""
        starts = np.cumsum([0, *self.sizes[:-1]])
        place = {name: i for i, name in enumerate(_tensors(self.program))}
        reduced: dict[str, Array] = {
            kind: reduce.reduceat(rows, starts, axis=1)
            for kind, reduce in (("max", np.maximum), ("min", np.minimum), ("sum", np.add))
        }
        found = []
        for output in self.program.outputs:
            at = [place[c.tensor] for c in output.columns]
            if output.kind == "sample":
                found.append(np.concatenate([rows[:, starts[i] : starts[i] + self.sizes[i]] for i in at], axis=1))
            else:
                found.append(np.repeat(reduced[output.kind][:, at], [c.width for c in output.columns], axis=1))
        return found


def _tensors(program: Program) -> list[str]:
    return list(dict.fromkeys(c.tensor for o in program.outputs for c in o.columns))


def _is_fixed(value: ValueInfoProto) -> bool:
    return all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim)


def _scan(proto: onnx.ModelProto, inputs: Mapping[str, ValueInfoProto], program: Program) -> onnx.ModelProto:
    """A model of one Scan over steps, which gives the last states, and each step's tensors and states."""
    states, others = program.states, [name for name in inputs if name not in program.states]
    wanted = list(dict.fromkeys([*_tensors(program), *states.values()]))
    body = GraphProto(name="step")
    body.input.extend(inputs[name] for name in (*states, *others))
    body.initializer.extend(proto.graph.initializer)
    body.node.extend(_needed(proto.graph.node, wanted))
    for source, name in (*((output, LAST + s) for s, output in states.items()), *((t, EACH + t) for t in wanted)):
        inner = OURS + name  # what is inside has other names than what is outside
        body.node.add(op_type="Identity", input=[source], output=[inner], name=inner)
        body.output.add(name=inner)
    made = [*(LAST + name for name in states), *(EACH + name for name in wanted)]
    read = [*(FIRST + name for name in states), *(ALL + name for name in others)]
    scan = helper.make_node("Scan", read, made, OURS, num_scan_inputs=len(others), body=body)
    outer = [*(_named(inputs[s], FIRST + s) for s in states), *(_stacked(inputs[o], ALL + o) for o in others)]
    graph = helper.make_graph([scan], "steps", outer, [ValueInfoProto(name=name) for name in made])
    return helper.make_model(
        graph, ir_version=proto.ir_version, opset_imports=proto.opset_import, functions=proto.functions
    )


def _needed(nodes: Sequence[NodeProto], wanted: Iterable[str]) -> list[NodeProto]:
    """The nodes that tensors hang on, in order: the statistics are not among them."""
    needed, kept = set(wanted), list[NodeProto]()
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(reads(node))
    return kept[::-1]


def _named(value: ValueInfoProto, name: str) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy


def _stacked(value: ValueInfoProto, name: str) -> ValueInfoProto:
    """An input of any number of steps."""
    copy = _named(value, name)
    dims = list(value.type.tensor_type.shape.dim)
    del copy.type.tensor_type.shape.dim[:]
    copy.type.tensor_type.shape.dim.add()
    copy.type.tensor_type.shape.dim.extend(dims)
    return copy
