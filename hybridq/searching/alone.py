"""Damage of many variants of the float model, each with a few quantizers: one growing graph, or a session each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx

from hybridq.model import Model
from hybridq.runtime import run, session
from hybridq.searching.damage import Array, Doubles, Objective, batched
from hybridq.searching.growing import Forms, Ungrowable, grow
from hybridq.storage import Weights

MEMORY = 1 << 28  # numbers that the largest tensors of a growing graph may hold together, about
DISABLED = ["WeightBiasQuantization"]  # it would make float layers integer


def damages(
    model: Model,
    weights: Weights,
    base: Forms,
    variants: Sequence[Forms],
    aim: Objective,
    *,
    samples: Sequence[int] | None = None,
    threads: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Doubles:
    """Damage of every variant over ``samples`` (indices; default all), as if these were all samples there are."""
    chosen = list(range(len(aim.reference.feeds))) if samples is None else list(samples)
    found = np.zeros(len(variants))
    for start, chunk in chunks(model, variants):
        rows = _measure(model, weights, base, chunk, aim, chosen, threads)
        found[start : start + len(chunk)] = rows * (len(aim.reference.feeds) / len(chosen))
        if progress is not None:
            progress(len(chunk))
    return found


def chunks(model: Model, variants: Sequence[Forms]) -> Iterator[tuple[int, Sequence[Forms]]]:
    """Variants that fit into memory together."""
    sizes = [int(np.prod([d if isinstance(d, int) else 1 for d in t.shape or ()])) for t in model.tensors.values()]
    largest = max(1, sum(sorted(sizes)[-4:]))
    count = int(np.clip(MEMORY // largest, 4, 256))
    for start in range(0, len(variants), count):
        yield start, variants[start : start + count]


def _measure(
    model: Model,
    weights: Weights,
    base: Forms,
    variants: Sequence[Forms],
    aim: Objective,
    samples: Sequence[int],
    threads: int,
) -> Doubles:
    try:
        grown = grow(model, weights, base, variants)
    except Ungrowable:
        return np.array([_alone(model, weights, {**base, **v}, aim, samples, threads) for v in variants])
    names = [f"{n}/all" for n in aim.reference.names]
    one = session(grown.proto, threads=threads, disabled_optimizers=DISABLED)
    takes = [_places(grown.rows[n], len(variants)) for n in aim.reference.names]
    total = np.zeros(len(variants))
    for i in samples:
        outputs = run(one, aim.reference.feeds[i], names)
        total += _rows(aim, i, outputs, takes)
    return total


def _places(rows: Sequence[int], variants: int) -> Array:
    """Where each variant's row is; the base's for those that never reach this output."""
    place = {row: i for i, row in enumerate(rows)}
    return np.array([place.get(v, place[0]) for v in range(1, variants + 1)])


def _rows(aim: Objective, sample: int, outputs: Sequence[Array], takes: Sequence[Array]) -> Doubles:
    noise = aim.reference.noise_of_rows(sample, outputs, takes)
    return aim.of(sample, noise)


def _alone(model: Model, weights: Weights, forms: Forms, aim: Objective, samples: Sequence[int], threads: int) -> float:
    proto: onnx.ModelProto = grow(model, weights, forms, []).proto
    names = [f"{n}/all" for n in aim.reference.names]
    one = session(proto, threads=threads, disabled_optimizers=DISABLED)
    total = 0.0
    for i in samples:
        outputs = [batched(x) for x in run(one, aim.reference.feeds[i], names)]
        total += float(aim.of(i, aim.reference.noise(i, outputs))[0])
    return total
