"""What goes wrong in the loop of a recurrent model: a state whose step is coarse against its updates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hybridq.calibration.statistics import TensorStatistics
from hybridq.linting.facts import Facts, Finding, number, setting

NOTED, WARNED = 4.0, 1.0  # steps that the ends of a state move by from one step of time to the next, half of the time


def states(facts: Facts) -> Iterator[Finding]:
    """States that are stored so coarsely that small updates are rounded away, again at every step."""
    for coming, going in facts.model.states.items():
        params, seen = facts.qparams(going), facts.stats.get(going)
        update = _update(seen) if seen is not None else 0.0
        if params is None or not update:
            continue
        steps = update / float(np.max(params.scale))
        if steps >= NOTED:
            continue
        message = (
            f"the state '{coming}' moves by {number(update)} from one step to the next, {number(steps)} of its steps "
            f"of {number(float(np.max(params.scale)))}: smaller updates are rounded away at every step"
        )
        group = facts.model.group_of[going]
        layers = (*group.layers, *facts.keeping(group))
        severity = "warning" if steps < WARNED else "note"
        yield Finding(going, "state", message, setting(layers, facts.raised), severity, layers, facts.raised)


def _update(seen: TensorStatistics) -> float:
    """By how much the ends of a state move from one sample to the next, half of the time; 0 where nothing moves."""
    pairs = seen.pairs.astype(np.float64)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    moved = np.abs(np.diff(pairs, axis=0)).max(axis=1, initial=0.0) if len(pairs) > 1 else np.zeros(0)
    moved = moved[moved > 0.0]
    return float(np.median(moved)) if moved.size else 0.0
