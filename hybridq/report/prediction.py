"""What a choice of precisions would do, predicted: noise that adds up, and costs. The page computes the same.

Every quantizer was measured alone at the model's outputs; independent noises add. With ``x[u]`` 1 where unit u is
raised, the noise of a figure (a whole output, or a slice of it) is::

    noise = sum over u of own[u] * (1 - x[u]) + sum over i of pairs[i] * (1 - x[first[i]] * x[second[i]])

A joint model has more or less than that (errors saturate and meet), and in much the same way whatever is raised. So
some joint models are built and measured, and what is left is fitted by a line on decibels::

    predicted_db = plain + offset + slope * (plain - centre),    plain = 10 log10(signal / noise)
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.report.words import few_digits

Doubles = NDArray[np.float64]

DIGITS = 4  # significant ones of what the page is given
SHARE = 0.15  # of the MACs above 8 bits, at most, in what is advised
NEARLY, LEAST = 0.5, 1.0  # dB: sets this near to the best are as good; a gain below this is none
MOST_DB = 200.0  # where no noise is left


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is predicted in dB: ``output``'s SQNR as a whole (``label`` empty), or that of one slice."""

    output: str
    label: str
    signal: float
    offset: float = 0.0
    slope: float = 0.0
    centre: float = 0.0

    def plain(self, noise: float) -> float:
        """Signal over noise in dB, before what the joint models taught."""
        if noise <= 0.0 or self.signal <= 0.0:
            return MOST_DB
        return max(-MOST_DB, min(MOST_DB, 10.0 * math.log10(self.signal / noise)))

    def decibels(self, noise: float) -> float:
        """The SQNR that a sum of errors leads to."""
        plain = self.plain(noise)
        return plain if plain == MOST_DB else plain + self.offset + self.slope * (plain - self.centre)


@dataclass(frozen=True, slots=True)
class Unit:
    """Layers that rise together since they write one group; ``share`` of the MACs, bytes of weights and microseconds.

    ``raised``: as the model was built.
    """

    name: str
    layers: tuple[str, ...]
    share: float
    low_bytes: int
    high_bytes: int
    low_us: float
    high_us: float
    raised: bool


@dataclass(frozen=True, slots=True)
class JointModel:
    """A model that was built and measured: the units raised, and every figure, predicted and measured, in dB."""

    what: str
    raised: tuple[int, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]


@dataclass(frozen=True)
class Additive:
    """Noise by figure: ``own`` (units, figures), and ``pairs`` (pairs, figures) of the units ``first``, ``second``."""

    own: Doubles
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    pairs: Doubles

    def noise(self, raised: Collection[int]) -> Doubles:
        """The formula of the module's text, by figure, where these units are raised."""
        up = np.zeros(len(self.own), bool)
        up[list(raised)] = True
        return np.asarray(self.own[~up].sum(0) + self.pairs[~(up[self.first] & up[self.second])].sum(0))


@dataclass(frozen=True)
class Prediction:
    """What is known of one folder's cfg. ``low`` and ``high`` are the two precisions of a layer.

    ``samples`` went into the joint models, ``alone`` of them into the additive model. ``base_share`` of the MACs is
    above 8 bits whatever is chosen. A boundary between the units of a pair converts ``elements``, at ``boundary_ns``
    each. ``clock``: whose microseconds are known, ``machine``, ``board`` or none. ``front`` has sets of units, the
    cheapest first.
    """

    low: str
    high: str
    samples: int
    alone: int
    figures: tuple[Figure, ...]
    units: tuple[Unit, ...]
    model: Additive
    elements: tuple[int, ...]
    base_share: float
    boundary_ns: float
    clock: str
    joints: tuple[JointModel, ...]
    front: tuple[tuple[int, ...], ...]

    def decibels(self, raised: Collection[int]) -> tuple[float, ...]:
        """Every figure in dB."""
        return tuple(f.decibels(float(n)) for f, n in zip(self.figures, self.model.noise(raised), strict=True))

    @property
    def current(self) -> tuple[int, ...]:
        """The units that are raised in the built model."""
        return tuple(i for i, u in enumerate(self.units) if u.raised)

    def promising(self) -> tuple[int, ...]:
        """The set of the front that gains most on the worst figure, with what is raised already; () where none does.

        It has at most ``SHARE`` of the MACs, and of sets that gain within ``NEARLY`` dB the smallest.
        """
        now, base = min(self.decibels(self.current), default=MOST_DB), set(self.current)
        found = []
        for one in self.front:
            raised = tuple(sorted(base | set(one)))
            share = self.base_share + sum(self.units[u].share for u in raised)
            if raised != self.current and share <= SHARE:
                found.append((min(self.decibels(raised)), -len(raised), raised))
        best = max((db for db, *_ in found), default=now)
        good = [one for one in found if one[0] >= best - NEARLY and one[0] > now + LEAST]
        return max(good, key=lambda one: one[1])[2] if good else ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for the page, numbers with ``DIGITS`` digits."""
        return {
            **{k: few_digits(getattr(self, k), DIGITS) for k in self.__dataclass_fields__ if k != "model"},
            **{k: few_digits(getattr(self.model, k).tolist(), DIGITS) for k in self.model.__dataclass_fields__},
        }
