"""Where a search starts from: ranges, roundings and biases for the whole model, as promising as each turns out.

Clipping, shifted means and errors that cancel are no independent noise, so what helps alone may hurt together, and what
is best with all layers in 8 bits need not be best once some are raised. So a start is judged by a joint model, with the
layers raised that the additive model would raise with it: whole repairs of weights first, then the better ranges in
nested sets, beside the best of the repairs and beside none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hybridq.search.choice import Choice, Tuning
from hybridq.search.measuring.joint import Bench
from hybridq.search.tuning.alternatives import Alternatives, repairs

STEPS = (0.8, 0.5, 0.95, 0.7, 0.3, 0.6, 0.9)  # ranges that alone do less than this share of the damage; likeliest first
REPAIRS = 2  # of weights and biases, the best of which meet every set of ranges

Raise = Callable[[Tuning], Choice]


def ranked_starts(bench: Bench, given: Tuning, found: Alternatives, raised: Raise, most: int) -> list[Tuning]:
    """Tunings, the most promising first; ``raised`` gives the choice that a tuning is judged by, ``most`` are tried."""
    whole = _ranked(bench, raised, [given, *repairs(bench, found)][: max(2, most // 2)])
    beside = list({Choice({}, t).key: t for t in (*whole[:REPAIRS], Tuning())}.values())
    sets = [found.clear(found.ranges, step) for step in STEPS]
    trials = [replace(t, ranges=ranges) for ranges in sets for t in beside]
    return _ranked(bench, raised, [*whole, *_different(trials)[: max(2, most - len(whole))]])


def _ranked(bench: Bench, raised: Raise, trials: Sequence[Tuning]) -> list[Tuning]:
    different = _different(trials)
    choices = [raised(t) for t in different]
    damages = [f.damage for f in bench.measure_all(choices, "ranges and roundings together")]
    order = sorted(range(len(choices)), key=lambda i: (damages[i], choices[i].key))
    return [different[i] for i in order]


def _different(trials: Sequence[Tuning]) -> list[Tuning]:
    return list({Choice({}, t).key: t for t in trials}.values())
