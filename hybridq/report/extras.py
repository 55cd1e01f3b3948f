"""What the page shows beside the comparison: how layers hang together, each one's story, samples, the what-if."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hybridq.report.gallery import Shot
from hybridq.report.prediction import Prediction
from hybridq.targets import Target


class ParetoPoint(NamedTuple):
    """One trial of a search: share of multiply-accumulates above 8 bits (0..1), damage in dB, whether it was chosen."""

    fraction: float
    damage_db: float
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Entered:
    """What entered the model in one channel of one input (None: in all), over all samples."""

    input: str
    channel: int | None
    min: float
    max: float
    mean: float


@dataclass(frozen=True)
class Extras:
    """Everything may be missing.

    ``folder`` is the one that commands name, ``points`` a search's trials. ``details`` are plain values by layer, as
    ``explain --json`` tells them, with ``channels`` of the weights; ``edges`` are pairs of layers, who writes and who
    reads. ``target`` is the one that was simulated. ``choices`` are the cfg's words by layer, ``defaults`` what
    holds without. ``sqnr`` is each sample's own in dB,
    in their order. ``entered`` is the audit of what entered the model, ``problems`` what looks wrong in it.
    ``then`` are the commands that lead from a changed cfg to a new report.
    """

    folder: str = ""
    then: str = ""
    points: Sequence[ParetoPoint] = ()
    prediction: Prediction | None = None
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    edges: Sequence[tuple[str, str]] = ()
    target: Target | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    shots: Sequence[Shot] = ()
    sqnr: Sequence[float] = ()
    entered: Sequence[Entered] = ()
    problems: Sequence[str] = ()
