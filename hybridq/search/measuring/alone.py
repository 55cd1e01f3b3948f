"""Noise of many variants of a model, each with a few quantizers changed: one growing graph, or a session each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from hybridq.graph.chance import random_nodes, seeded
from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, RuntimeModelError, Session, run, session
from hybridq.quant.qparams import QParams
from hybridq.search.measuring.batch_rows import Ungrowable
from hybridq.search.measuring.damage import Array, Doubles, Reference, batched, one_row
from hybridq.search.measuring.growing import STREAM, Forms, grow
from hybridq.storage.weights import Weights

T = TypeVar("T")
MEMORY = 1 << 28  # numbers that the largest tensors of a growing graph may hold together, about
PARTS, LEAST = 4, 16  # graphs that variants are shared among, where each gets so many: workers can share them, too
DISABLED = [
    "WeightBiasQuantization",  # it would make float layers integer
    "QDQS8ToU8Transformer",  # it forgets output_dtype of what ORT moved across a Reshape: the model does not load
]


@dataclass(frozen=True)
class Variants:
    """A model with the forms ``base``, and variants that change some of them, to be set against a reference."""

    model: Model
    weights: Weights
    base: Forms
    forms: Sequence[Forms]
    reference: Reference


def noise_of(
    asked: Variants,
    samples: Sequence[int],
    *,
    threads: int = 1,
    from_base: bool = True,
    between: Callable[[], object] = lambda: None,
) -> Iterator[Doubles]:
    """Sample by sample the noise of the base and of every variant, shape (1 + variants, slices).

    ``from_base``: against the base, which is then the float model as this very graph computes it, so that nothing but
    the quantizers makes a difference; else against the reference. ``between`` is called between sessions.
    """
    measure = _together(asked, threads, from_base) or one_by_one(asked, samples, threads, between)
    return map(measure, samples)


def _together(asked: Variants, threads: int, from_base: bool) -> Callable[[int], Doubles] | None:
    """All variants in one growing graph; None where rows cannot be told apart, by us or by ONNX Runtime.

    Of a recurrent model each variant has states of its own.
    """
    model, reference = asked.model, asked.reference
    if model.states:
        return None
    feed, given = reference.feeds[0], reference.given[0]
    if not all(_is_row(x) for x in given) or not _single(model, feed):
        return None
    try:
        grown = grow(model, asked.weights, asked.base, asked.forms)
        names = [grown.names[n] for n in reference.names]
        one = session(seeded(grown.proto), threads=threads, disabled_optimizers=DISABLED)
        outputs = run(one, feed, names)
    except (Ungrowable, RuntimeModelError):
        return None
    rows = [len(grown.rows[n]) for n in reference.names]
    if [x.shape for x in outputs] != [(count, *x.shape[1:]) for count, x in zip(rows, given, strict=True)]:
        return None
    takes = [_places(grown.rows[n], len(asked.forms)) for n in reference.names]
    first = {0: outputs}  # of what was run to see that it can be; a run of all variants is dear

    def measure(sample: int) -> Doubles:
        found = first.pop(sample, None)
        first.clear()
        found = run(one, reference.feeds[sample], names) if found is None else found
        return reference.noise_of_rows(sample, [batched(x) for x in found], takes, from_base=from_base)

    return measure


def grows(model: Model, weights: Weights, variants: Sequence[Forms], reference: Reference) -> bool:
    """Whether one graph can carry variants of a model, by the first of them, which travel together."""
    few = Variants(model, weights, {}, variants[:STREAM], reference)
    return not variants or _together(few, 1, True) is not None


def fingerprint(forms: Forms) -> str:
    """A text that is the same for the same quantizers with the same parameters."""
    digest = hashlib.sha256()
    for key, form in sorted(forms.items(), key=lambda x: x[0]):
        digest.update("\0".join(key).encode() + b"\1")
        if isinstance(form, QParams):
            digest.update(f"{form.precision} {form.axis}".encode() + form.scale.tobytes() + form.zero_point.tobytes())
        else:
            for name, values in sorted((form or {}).items()):
                digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:32]


def _is_row(output: Array) -> bool:
    """Whether an output of one sample is one row of a batch."""
    return output.ndim > 1 and len(output) == 1


def _single(model: Model, feed: Feed) -> bool:
    """Whether a free batch holds one row: the rows of more cannot be told from variants."""
    shapes = {n: model.tensors[n].shape for n in model.inputs if n in model.tensors}
    return all(len(feed[n]) == 1 for n, s in shapes.items() if s and not isinstance(s[0], int) and n in feed)


def chunks(model: Model, variants: Sequence[T]) -> Iterator[tuple[int, Sequence[T]]]:
    """Variants in equal parts that fit into memory, with the number of the first.

    However many workers there are: a graph's numbers may depend on what else it computes.
    """
    sizes = [int(np.prod([d if isinstance(d, int) else 1 for d in t.shape or ()])) for t in model.tensors.values()]
    largest = max(1, sum(sorted(sizes)[-4:]))
    most, count = int(np.clip(MEMORY // largest, 4, 256)), len(variants)
    parts = max(-(-count // most), min(PARTS, count // LEAST), 1)
    for start, end in pairwise(i * count // parts for i in range(parts + 1)):
        if end > start:
            yield start, variants[start:end]


def _places(rows: Sequence[int], variants: int) -> Array:
    """Where each variant's row is; the base's for those that never reach this output."""
    place = {row: i for i, row in enumerate(rows)}  # row 0, the base, comes first
    return np.array([place.get(v, place[0]) for v in range(variants + 1)])


def one_by_one(
    asked: Variants, samples: Sequence[int], threads: int, between: Callable[[], object] = lambda: None
) -> Callable[[int], Doubles]:
    """A session for each variant, one after the other: only their noise is kept."""
    model, reference = asked.model, asked.reference
    found: dict[int, list[Doubles]] = {i: [] for i in samples}
    drawing = bool(random_nodes(model.proto.graph))
    order = range(max(samples) + 1) if drawing or model.states else samples  # what comes out hangs on the runs before
    for forms in (asked.base, *({**asked.base, **v} for v in asked.forms)):
        between()
        grown = grow(model, asked.weights, forms, [])
        one: Session = session(seeded(grown.proto), threads=threads, disabled_optimizers=DISABLED)
        names = [grown.names[n] for n in reference.names]
        rolled = Rolled(one, model.states, grown.names)
        for i in order:
            outputs = [one_row(x) for x in rolled.run(reference.feeds[i], names)]
            if i in found:
                found[i].append(reference.noise(i, outputs)[0])
    return lambda sample: np.stack(found[sample])
