"""The parts of a comparison that may run anywhere: pure functions over a few samples, in whatever process.

Outputs of both models come back sample by sample and are added up by whoever asked; the insides of the models stay
where they are, and sums over ``INSIDE`` samples come back, to be merged in order. So every figure is the same number
wherever its samples ran.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import onnx

from hybridq.compare.layers import Ends, Keep, LayerProbe, LayerSums, probe_layers
from hybridq.compare.metric import Outputs
from hybridq.compare.results import LayerPair
from hybridq.errors import ModelError
from hybridq.execution.shared import Shared
from hybridq.graph import runtime
from hybridq.graph.load import load
from hybridq.graph.rolling import Rolled, begins
from hybridq.graph.runtime import Feed, Session
from hybridq.graph.states import States

Source = onnx.ModelProto | Path
SHARD = 4  # samples whose outputs come back together
INSIDE = 8  # samples whose layers are measured together


@dataclass(frozen=True)
class Inside:
    """What is measured inside the models, on the first ``samples`` samples (None: all).

    ``layers``: where each layer is in both. ``ranges``: what calibration saw of each float tensor, real (min, max):
    values outside are reported as drift. ``keep`` is shown every layer's values on the first samples.
    """

    layers: Sequence[LayerPair] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: int | None = None
    keep: Keep | None = None

    def __bool__(self) -> bool:
        return bool(self.layers or self.ranges)


@dataclass(frozen=True)
class Models:
    """Float and hybrid, ready for any process: equal where ``key`` is. ``states`` go round in each on its own."""

    reference: onnx.ModelProto = field(compare=False, repr=False)
    hybrid: onnx.ModelProto = field(compare=False, repr=False)
    states: States = field(compare=False)
    inside: Inside = field(compare=False, repr=False)
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


class Ran(NamedTuple):
    """One sample through both models: what each was fed, whether it began anew, and what came out, by name."""

    fed: tuple[Feed, Feed]
    begins: bool
    outputs: tuple[Outputs, Outputs]


def proto_of(source: Source) -> onnx.ModelProto:
    """The graph of a model. Raises ModelError."""
    if isinstance(source, onnx.ModelProto):
        return source
    try:
        return load(source)
    except Exception as error:
        raise ModelError("not an ONNX model, or it cannot be read", path=str(source), hint=str(error)) from error


def sessions_of(models: Models, threads: int) -> tuple[Session, Session]:
    """The untouched models; they stay for the next samples of the same pair."""
    _probe.cache_clear()  # memory holds one or the other
    return _sessions(models, threads)


@lru_cache(maxsize=1)
def _sessions(models: Models, threads: int) -> tuple[Session, Session]:
    return runtime.session(models.reference, threads=threads), runtime.session(models.hybrid, threads=threads)


@lru_cache(maxsize=1)
def _probe(models: Models, threads: int) -> LayerProbe:
    inside = models.inside
    return probe_layers(
        models.reference, models.hybrid, inside.layers, inside.ranges, threads=threads, keep=inside.keep
    )


def let_go() -> None:
    """Forget the sessions of this process."""
    _sessions.cache_clear()
    _probe.cache_clear()


def run_both(models: Models, feeds: Iterable[Feed], threads: int) -> Iterator[Ran]:
    """Every sample through both models, in order."""
    one, other = (Rolled(session, models.states) for session in sessions_of(models, threads))
    names = [output.name for output in one.one.get_outputs()]
    for feed in feeds:
        fed = one.whole(feed), other.whole(feed)
        a, b = (dict(zip(names, r.run(x, names), strict=True)) for r, x in zip((one, other), fed, strict=True))
        yield Ran(fed, begins(feed, models.states), (a, b))


def measure_layers(
    shared: Shared[Models], fed: Sequence[tuple[Feed, Feed]], ends: Ends | None, threads: int
) -> LayerSums:
    """What happens inside the models on a shard; ``ends`` of histograms are those that the first shard chose."""
    _sessions.cache_clear()
    probe = _probe(shared.value, threads)
    sums = probe.nothing(ends)
    probe.add(fed, sums)
    return sums


def shards(fed: Sequence[tuple[Feed, Feed]]) -> Iterator[Sequence[tuple[Feed, Feed]]]:
    """Samples, ``INSIDE`` at a time."""
    return (fed[start : start + INSIDE] for start in range(0, len(fed), INSIDE))
