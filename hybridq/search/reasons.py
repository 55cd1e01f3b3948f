"""Why a layer has more bits: what it does for the output that needs it most, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from hybridq.search.choice import Choice, Figures
from hybridq.search.judge import Judge
from hybridq.search.measuring.joint import Bench
from hybridq.search.work import TimeUp

TOLD = 0.05  # dB that a reason can show
IDLE = 1.003  # of the damage, and of the answers expected to change: what may come back with bits that no figure shows


def reasons(bench: Bench, chosen: Choice) -> dict[str, str]:
    """By raised layer, the most useful first. They stand in the cfg, so no time of a clock is among them."""
    whole = bench.figures(chosen)
    ranked = sorted(_without(bench, chosen), key=lambda x: (-x[1].damage if x[1] else 0.0, x[0]))
    found = {}
    for unit, figures in ranked:
        text = _told(figures, whole) if figures is not None else "measured with the others, time was over"
        for name in bench.model.group[unit].layers:
            if name in chosen.layers and not bench.model.layer[name].float_only:
                found[name] = text
    return found


def kept_for_a_reason(bench: Bench, chosen: Choice, judge: Judge) -> Choice:
    """The choice without units whose bits no figure gains by, as long as the damage stays about what it was."""
    first = bench.measure(chosen)
    for unit in raised_units(bench, chosen):
        without, whole = _taken(bench, chosen, unit), bench.measure(chosen)
        figures = bench.measure(without)
        gains = _gain(figures, whole)[0] >= TOLD or figures.doubt > IDLE * first.doubt
        needed = judge.budget.asks_quality and judge.enough(whole) and not judge.enough(figures)
        if not gains and not needed and figures.damage <= IDLE * first.damage:
            chosen = without
    return chosen


def raised_units(bench: Bench, chosen: Choice) -> list[str]:
    """The groups of the raised layers, in the order of the choice."""
    return list(dict.fromkeys(bench.model.layer[n].group for n in chosen.layers))


def _taken(bench: Bench, chosen: Choice, unit: str) -> Choice:
    layers = bench.model.group[unit].layers
    return chosen.with_layers({n: p for n, p in chosen.layers.items() if n not in layers})


def _without(bench: Bench, chosen: Choice) -> Iterator[tuple[str, Figures | None]]:
    """Every unit with the figures of the choice without it; None where there is no time left to measure them."""
    trials = {u: _taken(bench, chosen, u) for u in raised_units(bench, chosen)}
    with suppress(TimeUp):
        bench.measure_all(list(trials.values()))
    return ((u, bench.known.get(c.key)) for u, c in trials.items())


def _gain(before: Figures, after: Figures) -> tuple[float, str, float, float]:
    """The figure that gains most, of an output as a whole or of its worst slice: dB gained, its name, before, after."""
    pairs = (("", before.sqnr_db, after.sqnr_db), (", worst slice", before.worst_sqnr_db, after.worst_sqnr_db))
    return max(
        (
            (after_db[o] - before_db[o], o + what, before_db[o], after_db[o])
            for what, before_db, after_db in pairs
            for o in after_db
        ),
        default=(0.0, "outputs", 0.0, 0.0),
    )


def _told(before: Figures, after: Figures) -> str:
    _, name, low, high = _gain(before, after)
    return f"{name}: {low:.1f} dB -> {high:.1f} dB"
