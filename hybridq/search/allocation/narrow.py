"""Fewer or cheaper bits for units that do as well with them: all at once, else one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hybridq.quant.dtypes import Precision
from hybridq.search.choice import Choice, Figures
from hybridq.search.measuring.joint import Bench

NEARLY = 1.02  # of the damage: what fewer bits may add where several precisions may be chosen


def narrowed(
    bench: Bench,
    chosen: Choice,
    units: Sequence[str],
    precision: Precision,
    *,
    one_kind: bool,
    enough: Callable[[Figures], bool] | None = None,
) -> Choice:
    """The choice with ``precision`` for units that do as well with it.

    ``one_kind``: the target takes one precision above 8 bits in a model, so all units change or none. ``enough``: what
    must still hold of a budget of quality.
    """
    groups = bench.model.group
    limit = NEARLY * bench.measure(chosen).damage
    widest = {p for p in chosen.layers.values() if p is not precision}

    def tried(names: Sequence[str]) -> Choice:
        layers = [n for u in names for n in groups[u].layers]
        return chosen.with_layers({**chosen.layers, **dict.fromkeys(layers, precision)})

    def suits(trial: Choice) -> bool:
        figures = bench.measure(trial)
        return figures.damage <= limit and (enough is None or enough(figures))

    rest = [u for u in units if all(chosen.layers.get(n) in widest for n in groups[u].layers)]
    if not rest or suits(tried(rest)):
        return tried(rest)
    for unit in () if one_kind else rest:
        trial = tried([unit])
        if suits(trial):
            chosen = trial
    return chosen
