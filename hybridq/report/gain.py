"""What an action gains, and from where on an output is good."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hybridq.report.prediction import MOST_DB
from hybridq.report.words import decibels

GOOD_WHOLE_DB, GOOD_WORST_DB = 20.0, 30.0  # of a whole output and of its worst slice: nothing speaks against it
GOOD_CENTERED_DB = 25.0  # of what varies over the samples: a third of a pixel of a face's landmarks is lost there


@dataclass(frozen=True, slots=True)
class Gain:
    """The lowest output's SQNR in dB after an action, and whether that was ``measured`` or ``predicted``.

    ``worst_db`` is that of the worst slice, ``centered_db`` the lowest centered SQNR, each None where there is none;
    ``high_fraction`` the cost: the share of MACs above 8 bits, 0 to 1.
    """

    sqnr_db: float
    by: str
    worst_db: float | None = None
    high_fraction: float | None = None
    centered_db: float | None = None

    @property
    def suffices(self) -> bool:
        """Whether nothing would speak against the outputs any more."""
        beside = ((self.worst_db, GOOD_WORST_DB), (self.centered_db, GOOD_CENTERED_DB))
        known = [db >= limit for db, limit in beside if db is not None]
        return bool(known) and all(known) and self.sqnr_db >= GOOD_WHOLE_DB

    @property
    def least(self) -> float:
        """The lower of the whole and the worst slice."""
        return self.sqnr_db if self.worst_db is None else min(self.sqnr_db, self.worst_db)

    def __str__(self) -> str:
        told = [_shown(self.sqnr_db)]
        if self.worst_db is not None:
            told.append(f"worst slice {_shown(self.worst_db)}")
        if self.centered_db is not None:
            told.append(f"centered {_shown(self.centered_db)}")
        told.append(self.by)
        if self.high_fraction is not None:
            told.append(f"{self.high_fraction:.1%} of MACs")
        return ", ".join(told) + (": enough" if self.suffices else "")


def _shown(db: float) -> str:
    return decibels(math.inf if db >= MOST_DB else db)
