"""Sequences: the steps that a recurrent model is fed, in order, and where one sequence ends and the next begins.

A list parts them by blank lines; ``every`` so many steps a new one may begin; a file with a leading time axis is one
of its own. Where samples bring states of their own, a sequence begins with each state that the float model did not make
of the sample before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hybridq.dataset.archives import Stack, one_of, stack_of
from hybridq.dataset.arrays import NPY_ERRORS, Reader, load_npy
from hybridq.dataset.sources import Around, FileSource, Row
from hybridq.dataset.spec import Array, InputSpec, is_dynamic
from hybridq.errors import DatasetError
from hybridq.graph.rolling import picked

NEAR = 0.01  # of the largest value of a state

Follow = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Sequenced(Around):
    """A source whose rows know where a sequence begins: at the first, where it or ``starts`` say, ``every`` rows."""

    every: int | None = None
    starts: frozenset[int] = frozenset()

    @property
    def count(self) -> int | None:
        """The number of steps."""
        return self.source.count

    def rows(self, picks: Sequence[int] | None = None) -> Iterator[Row]:
        """The steps in order, or those of ascending numbers."""
        wanted = None if picks is None else set(picks)
        return (row for i, row in enumerate(self._marked()) if wanted is None or i in wanted)

    def _marked(self) -> Iterator[Row]:
        since = 0
        for i, row in enumerate(self.source.rows()):
            since = 0 if i == 0 or row.begins or i in self.starts or since == self.every else since
            yield row if row.begins is (since == 0) else replace(row, begins=since == 0)
            since += 1

    @property
    def lengths(self) -> list[int]:
        """Steps of each sequence; of a source that knows how many it has."""
        count = self.count or 0
        if isinstance(self.source, FileSource) or self.starts:
            starts = [i for i, row in enumerate(self._marked()) if row.begins]
        else:
            starts = list(range(0, count, self.every or count))
        return [b - a for a, b in zip(starts, [*starts[1:], count], strict=True)]

    def pick(self, samples: int) -> tuple[int, ...]:
        """Numbers of ``samples`` steps: whole sequences, spread, as far as they go."""
        return tuple(picked(self.lengths, samples))


def starts_of(steps: Sequenced, readers: Sequence[Reader], follow: Follow) -> frozenset[int]:
    """Numbers of the steps whose own states are not what the float model made of the step before.

    ``follow`` is the model: a whole feed to the states that the next step takes.
    """
    found: set[int] = set()
    expected: Mapping[str, Array] = {}
    for number, row in enumerate(steps.rows()):
        feed = {r.spec.name: r.read(row.values[r.spec.name]) for r in readers if r.spec.name in row.values}
        brought = [r.spec.name for r in readers if r.spec.state and r.spec.name in feed]
        if not row.begins and any(not _same(feed[n], expected[n]) for n in brought):
            found.add(number)
        elif not row.begins:
            feed = {**expected, **feed}
        feed = {
            **{r.spec.name: zeros(r.spec, feed, [r.spec for r in readers]) for r in readers if r.spec.state},
            **feed,
        }
        expected = follow(feed)
    return frozenset(found)


def _same(given: Array, made: Array) -> bool:
    """Whether a state is what the model made, but for what another build of ONNX Runtime rounds otherwise."""
    if given.shape != made.shape:
        return False
    return bool(np.abs(given - made).max(initial=0.0) <= NEAR * np.abs(made).max(initial=0.0) + NEAR * NEAR)


def zeros(spec: InputSpec, feed: Mapping[str, Array], inputs: Sequence[InputSpec]) -> Array:
    """A state before the first step. An axis of any size is as long as the one of that name that is fed, else 1."""
    sizes = {
        axis: size
        for other in inputs
        if other.name in feed and other.shape is not None
        for axis, size in zip(other.shape, feed[other.name].shape, strict=False)
    }
    shape = tuple(int(sizes.get(axis, 1)) if is_dynamic(axis) else int(axis) for axis in spec.shape or ())
    return np.zeros(shape, np.dtype(spec.dtype))


def steps_of(row: Row, inputs: Sequence[InputSpec]) -> list[Row]:
    """A line of a list as steps: one, or as many as its files have along a leading time axis.

    Files of states are for the first step, files without a time axis are the same in all. Raises DatasetError where
    the numbers of steps differ, and where a file is none.
    """
    opened = {s.name: _opened(row.values[s.name], s) for s in inputs if not s.state and s.name in row.values}
    stacks = {name: held for name, held in opened.items() if held is not None}
    counts = {name: stack.count for name, (_, stack) in stacks.items()}
    if not stacks:
        return [row]
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{row.files[name]!r} {count}" for name, count in counts.items())
        raise DatasetError(f"the files of a line have different numbers of steps: {said}")
    states = {s.name for s in inputs if s.state and s.name in row.values}
    return [_step(row, n, stacks, states) for n in range(next(iter(counts.values())) or 0)]


def _step(row: Row, number: int, stacks: Mapping[str, tuple[Array, Stack]], states: Collection[str]) -> Row:
    """One step of a line; ``states`` are given to the first."""
    here = [name for name in row.values if number == 0 or name not in states]
    values = {n: one_of(stacks[n][0], number, stacks[n][1]) if n in stacks else row.values[n] for n in here}
    kept = {n: file for n, file in row.files.items() if number == 0 or n not in states}
    files = {n: f"{file}[{number}]" if n in stacks else file for n, file in kept.items()}
    return Row(f"{row.name}[{number}]", row.line, values, files, begins=number == 0)


def _opened(value: object, spec: InputSpec) -> tuple[Array, Stack] | None:
    """The values of a file with a time axis, not yet read, and how they count steps; None for one step."""
    if not isinstance(value, Path) or value.suffix.lower() != ".npy" or spec.shape is None:
        return None
    try:
        held: Array = np.load(value, mmap_mode="r", allow_pickle=False)
        stack = stack_of(value.name, held.shape, held.dtype, False, spec, str(value))
    except NPY_ERRORS:
        held = load_npy(value)  # says what is wrong
        return None
    except DatasetError:
        return None  # reading it will say that the shape is wrong
    return None if stack.count is None or (stack.count == 1 and stack.batched) else (held, stack)
