"""``Rolled``: a run over samples in order. Ordinary samples stand alone; a recurrent model's states go round.

One rule serves all: *a feed that holds every input begins anew, one that lacks the states goes on with those that the
run before gave*. Samples of ordinary models hold every input. So calibration, comparison and search run samples through
the same few lines, and none of them asks what kind of model it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.errors import ModelError
from hybridq.graph.runtime import Feed, Session, run, session
from hybridq.graph.states import States

LOOP = 16  # steps


@dataclass
class Rolled:
    """A session that is given samples one after the other; each instance has states of its own.

    ``states`` are pairs of input and output; ``called`` says what the session calls an output where it is not the name
    in the pair.
    """

    one: Session
    states: States = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)
    held: dict[str, NDArray[Any]] = field(default_factory=dict)

    def whole(self, feed: Feed) -> Feed:
        """The feed with the states that it goes on with. Raises ModelError where no step was before."""
        missing = [name for name in self.states if name not in feed]
        if not missing:
            return feed
        if not self.held:
            raise ModelError("a sequence begins with a step that has no states")
        return {**feed, **{name: self.held[name] for name in missing}}

    def run(self, feed: Feed, names: list[str] | None = None) -> list[NDArray[Any]]:
        """Outputs for the next sample. Raises ModelError with ONNX Runtime's reason."""
        if not self.states:
            return run(self.one, feed, names)
        wanted = [o.name for o in self.one.get_outputs()] if names is None else names
        kept = {name: self.called.get(output, output) for name, output in self.states.items()}
        asked = [*wanted, *(n for n in dict.fromkeys(kept.values()) if n not in wanted)]
        values = run(self.one, self.whole(feed), asked)
        found = dict(zip(asked, values, strict=True))
        self.held = {name: np.asarray(found[output]) for name, output in kept.items()}
        return values[: len(wanted)]


def follower(model: onnx.ModelProto | Path, states: States, *, threads: int = 0) -> Callable[[Feed], Feed]:
    """A function from a whole feed to the states that the next step takes; the session is made when it is needed."""
    outputs = list(states.values())
    made = cache(lambda: session(model, threads=threads))
    return lambda feed: dict(zip(states, run(made(), feed, outputs), strict=True))


def begins(feed: Feed, states: States) -> bool:
    """Whether a sample does not go on with the one before."""
    return all(name in feed for name in states)


def stretches(feeds: Sequence[Feed], states: States) -> list[range]:
    """The sequences among feeds, as the numbers of their samples; of an ordinary model every sample is one."""
    starts = [i for i, feed in enumerate(feeds) if begins(feed, states)]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(feeds)], strict=True)]


def in_a_row(feeds: Sequence[Feed], states: States) -> list[Feed]:
    """Samples that all but stand alone as one sequence: steps with recorded states do not show what errors of these do.

    Sequences of ``LOOP`` steps show it, and stay what they are.
    """
    if not states or max(map(len, stretches(feeds, states)), default=0) >= min(LOOP, len(feeds)):
        return list(feeds)
    return [*feeds[:1], *({n: x for n, x in feed.items() if n not in states} for feed in feeds[1:])]


def picked(lengths: Iterable[int], most: int) -> list[int]:
    """Which ``most`` samples of sequences of these lengths to take: sequences spread, the last as far as it goes.

    Sequences of one sample each are samples spread evenly.
    """
    found = list(lengths)
    starts = np.cumsum([0, *found])
    count = sum(found)
    if most >= count:
        return list(range(count))
    number = next(n for n in range(1, len(found) + 1) if sum(found[i] for i in _spread(len(found), n)) >= most)
    taken = [i for s in _spread(len(found), number) for i in range(int(starts[s]), int(starts[s + 1]))]
    return taken[:most]


def _spread(count: int, number: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(number, count)).round().astype(int).tolist()))
