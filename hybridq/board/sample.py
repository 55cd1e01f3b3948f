"""Which of our samples the device ran on: known by what it says it was fed, else by their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.board.arranged import Arranger
from hybridq.board.matching import matched_inputs
from hybridq.board.records import Captured, Dump
from hybridq.board.values import load
from hybridq.errors import BoardError
from hybridq.graph.model import Model
from hybridq.quant.metrics import sqnr_db
from hybridq.quant.qparams import QParams

SAME_DB = 15.0  # what was fed and the sample, which may be rounded to 8 bits: more than 30 as a rule
SURE_DB = 40.0  # no need to look any further

Feed = Mapping[str, NDArray[Any]]


@dataclass
class Nearest:
    """The nearest of our samples so far: its number, how near in dB, what is fed."""

    number: int = -1
    near_db: float = -np.inf
    feed: Feed | None = None


def chosen_samples(
    dump: Dump, model: Model, feeds: Iterable[Feed], stored: Mapping[str, QParams]
) -> list[tuple[int, Feed]]:
    """The number and the feed of our sample for each of the dump's. Raises BoardError where one is none of ours."""
    nearest = [Nearest() for _ in dump.samples]
    fed = [_fed(dump, sample, model) for sample in dump.samples]
    for number, feed in enumerate(feeds):
        for i, found in enumerate(nearest):
            if found.near_db < SURE_DB:
                _look(found, number, feed, fed[i], stored, own=number == i)
        if all(c.near_db >= SURE_DB for c in nearest):
            break
    for i, found in enumerate(nearest):
        _need(dump, i, found, fed[i], stored)
    return [(c.number, c.feed) for c in nearest if c.feed is not None]


def _fed(dump: Dump, sample: Mapping[str, Captured], model: Model) -> dict[str, Captured]:
    """What the dump says that the device was fed, by the model's inputs; its states are its own."""
    own = {**dump.given, **sample}
    return {name: own[hit] for name, hit in matched_inputs(model, own).items() if name not in model.states}


def _look(
    found: Nearest, number: int, feed: Feed, fed: Mapping[str, Captured], stored: Mapping[str, QParams], *, own: bool
) -> None:
    """Take a sample that is nearer; without anything to tell by, the one in the same place."""
    near = min((_near(feed[n], c, stored.get(n)) for n, c in fed.items()), default=np.inf if own else -np.inf)
    if near > found.near_db:
        found.number, found.near_db, found.feed = number, near, feed


def _near(ours: NDArray[Any], captured: Captured, stored: QParams | None, *, reverse: bool = False) -> float:
    reference = ours.astype(np.float32)
    theirs, _ = Arranger().arrange(captured, load(captured, reference.size, stored), reference)
    return sqnr_db(reference, theirs[:, ::-1] if reverse else theirs)


def _need(dump: Dump, i: int, found: Nearest, fed: Mapping[str, Captured], stored: Mapping[str, QParams]) -> None:
    """Raise BoardError where the dump's sample is none of ours."""
    if found.feed is None and not fed:
        said = f"has {len(dump.samples)} samples, and this is number {i + 1} of the dataset, which has fewer"
        raise BoardError(said, path=str(dump.folder), hint="Give the dataset whose first samples the device ran on.")
    if found.near_db >= SAME_DB:
        return
    name, captured = next(iter(fed.items()))
    hint = "Give --dataset with the sample that the device ran on, and the same --mean and --std."
    if found.feed is not None and found.feed[name].ndim == 4:
        swapped = _near(found.feed[name], captured, stored.get(name), reverse=True)
        if swapped >= SAME_DB:
            hint = f"Its channels are reversed: with them turned, sample {found.number + 1} is the one (rgb or bgr)."
    said = f"what the device was fed as '{name}' is no sample of the dataset"
    raise BoardError(f"{said}; the nearest, number {found.number + 1}, is {found.near_db:.1f} dB near",
                     path=str(captured.path), hint=hint)  # fmt: skip
