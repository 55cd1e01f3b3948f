"""Noise of many variants of a model, each with a few quantizers changed: one growing graph, or a session each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed, Session, run, session
from hybridq.search.damage import Array, Doubles, Reference, batched, one_row
from hybridq.search.growing import Forms, grow
from hybridq.search.rows import Ungrowable
from hybridq.storage.weights import Weights

MEMORY = 1 << 28  # numbers that the largest tensors of a growing graph may hold together, about
DISABLED = [
    "WeightBiasQuantization",  # it would make float layers integer
    "QDQS8ToU8Transformer",  # it forgets output_dtype of what ORT moved across a Reshape: the model does not load
]


def noise_of(
    model: Model,
    weights: Weights,
    base: Forms,
    variants: Sequence[Forms],
    reference: Reference,
    samples: Sequence[int],
    *,
    threads: int = 1,
    from_base: bool = True,
) -> Doubles:
    """Noise of the base and of every variant, shape (samples, 1 + variants, slices).

    ``from_base``: against the base, which is then the float model as this very graph computes it, so that nothing but
    the quantizers makes a difference; else against the reference.
    """
    if not all(_leads_with_batch(model, n) for n in reference.names) or not _single(model, reference.feeds[0]):
        return _one_by_one(model, weights, base, variants, reference, samples, threads)
    try:
        grown = grow(model, weights, base, variants)
    except Ungrowable:
        return _one_by_one(model, weights, base, variants, reference, samples, threads)
    names = [f"{n}/all" for n in reference.names]
    one = session(grown.proto, threads=threads, disabled_optimizers=DISABLED)
    takes = [_places(grown.rows[n], len(variants)) for n in reference.names]
    found = []
    for i in samples:
        outputs = [batched(x) for x in run(one, reference.feeds[i], names)]
        found.append(reference.noise_of_rows(i, outputs, takes, from_base=from_base))
    return np.stack(found)


def _leads_with_batch(model: Model, output: str) -> bool:
    """Whether the rows of an output are samples, as far as its shape says."""
    shape = model.tensors[output].shape if output in model.tensors else None
    return not shape or not isinstance(shape[0], int) or shape[0] == 1


def _single(model: Model, feed: Feed) -> bool:
    """Whether a free batch holds one row: the rows of more cannot be told from variants."""
    shapes = {n: model.tensors[n].shape for n in model.inputs if n in model.tensors}
    return all(len(feed[n]) == 1 for n, s in shapes.items() if s and not isinstance(s[0], int) and n in feed)


def chunks(model: Model, variants: Sequence[Forms]) -> Iterator[tuple[int, Sequence[Forms]]]:
    """Variants that fit into memory together, with the number of the first."""
    sizes = [int(np.prod([d if isinstance(d, int) else 1 for d in t.shape or ()])) for t in model.tensors.values()]
    largest = max(1, sum(sorted(sizes)[-4:]))
    count = int(np.clip(MEMORY // largest, 4, 256))
    for start in range(0, len(variants), count):
        yield start, variants[start : start + count]


def _places(rows: Sequence[int], variants: int) -> Array:
    """Where each variant's row is; the base's for those that never reach this output."""
    place = {row: i for i, row in enumerate(rows)}  # row 0, the base, comes first
    return np.array([place.get(v, place[0]) for v in range(variants + 1)])


def _one_by_one(
    model: Model,
    weights: Weights,
    base: Forms,
    variants: Sequence[Forms],
    reference: Reference,
    samples: Sequence[int],
    threads: int,
) -> Doubles:
    names = [f"{n}/all" for n in reference.names]
    found = []
    for forms in (base, *({**base, **v} for v in variants)):
        one: Session = session(grow(model, weights, forms, []).proto, threads=threads, disabled_optimizers=DISABLED)
        rows = ([one_row(x) for x in run(one, reference.feeds[i], names)] for i in samples)
        found.append(np.stack([reference.noise(i, row)[0] for i, row in zip(samples, rows, strict=True)]))
    return np.stack(found, axis=1)
