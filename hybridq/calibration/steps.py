"""Steps of recurrent models, many at a time: fetching their small tensors whole costs less than reducing each.

What the instrumented graph would have said of each step is worked out here for a block of steps at once, in the same
form: ``calibrate`` records it as it records a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.calibration.instrument import SUBSAMPLE, Program
from hybridq.graph import runtime
from hybridq.graph.edit import reads
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, Session

BLOCK = 64  # steps
Array = NDArray[Any]
Step = tuple[int, Feed]  # number, feed


def suits(program: Program) -> bool:
    """Whether a program's tensors are small enough, and their sizes known."""
    widths = [c.width for o in program.outputs if o.kind == "sample" for c in o.columns]
    return bool(program.states) and bool(widths) and all(0 < w < SUBSAMPLE // 2 for w in widths)


def fetching(program: Program, threads: int) -> Session:
    """A session that gives the tensors themselves."""
    proto = onnx.load_model_from_string(program.model)
    wanted = [*_tensors(program), *program.states.values()]
    del proto.graph.output[:]
    runtime.expose(proto, wanted)
    needed, kept = set(wanted), list[onnx.NodeProto]()
    for node in reversed(proto.graph.node):  # ONNX Runtime would run the statistics, too
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(reads(node))
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(kept))
    return runtime.session(proto, threads=threads)


def blocks(program: Program, one: Session, steps: Iterable[Step]) -> Iterator[tuple[int, list[Feed], list[Array]]]:
    """Runs of steps: the number of the first, what was fed, and what an instrumented graph would say, a row a step."""
    names, rolled = _tensors(program), Rolled(one, program.states)
    block = _Block(0, names)
    for number, given in steps:
        feed = rolled.whole(given)
        values = [v.reshape(-1) for v in rolled.run(feed, names)]
        if not block.fits(number, values):
            yield block.first, block.fed, block.said(program)
            block = _Block(number, names)
        block.add(number, feed, values)
    if block.fed:
        yield block.first, block.fed, block.said(program)


def together(program: Program, fed: Sequence[Feed]) -> Feed:
    """What was fed to the measured inputs, a row a step."""
    return {name: np.stack([feed[name] for feed in fed]) for name in program.inputs}


def _tensors(program: Program) -> list[str]:
    return list(dict.fromkeys(c.tensor for o in program.outputs for c in o.columns))


class _Block:
    """Consecutive steps; ``rows`` hold a step's tensors end to end."""

    def __init__(self, first: int, names: Sequence[str]) -> None:
        self.first, self.names = first, names
        self.fed: list[Feed] = []
        self.sizes: list[int] = []
        self.rows = np.empty((0, 0), np.float32)

    def fits(self, number: int, values: Sequence[Array]) -> bool:
        """Whether a step can be added."""
        follows = number == self.first + len(self.fed) and len(self.fed) < BLOCK
        return not self.fed or (follows and self.sizes == [v.size for v in values])

    def add(self, number: int, feed: Feed, values: Sequence[Array]) -> None:
        """Take in one step."""
        if not self.fed:
            self.first, self.sizes = number, [v.size for v in values]
            self.rows = np.empty((BLOCK, sum(self.sizes)), np.float32)
        np.concatenate(values, out=self.rows[len(self.fed)])
        self.fed.append(feed)

    def said(self, program: Program) -> list[Array]:
        """Every output of the instrumented graph: (steps, columns)."""
        rows, starts = self.rows[: len(self.fed)], np.cumsum([0, *self.sizes[:-1]])
        place = {name: i for i, name in enumerate(self.names)}
        reduced: dict[str, Array] = {
            kind: reduce.reduceat(rows, starts, axis=1)
            for kind, reduce in (("max", np.maximum), ("min", np.minimum), ("sum", np.add))
        }
        found = []
        for output in program.outputs:
            at = [place[c.tensor] for c in output.columns]
            if output.kind == "sample":
                found.append(np.concatenate([rows[:, starts[i] : starts[i] + self.sizes[i]] for i in at], axis=1))
            else:
                found.append(np.repeat(reduced[output.kind][:, at], [c.width for c in output.columns], axis=1))
        return found
