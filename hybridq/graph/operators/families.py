"""Families of operators: each says every column once, the rows of the table what is different about an operator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hybridq.graph.operators.columns import (
    BatchRows,
    DataFree,
    Inputs,
    Interval,
    Kernel,
    Kind,
    Layout,
    Movement,
    Operator,
    Ties,
)

PLAIN = Operator(  # the base of the families: computes on activations, and nothing more is known
    kind=Kind.ELEMENTWISE,
    kernel=Kernel.NONE,
    note="",
    inputs=Inputs.of("data"),
    movement=Movement.NONE,
    layout=Layout.NONE,
    range=None,
    slope=None,
    steep=False,
    pointwise=False,
    keeps_unit=False,
    absorbed=False,
    float_result=False,
    channel_axis=None,
    rows=BatchRows.MIXED,
    axis=None,
    counts=False,
    draws=False,
    retypes=False,
    saves=0.0,
    interval=Interval.MEASURED,
    data_free=DataFree.GUESS,
    ties=Ties.FIXED,
)


def like(family: Operator, names: str, **different: Any) -> dict[str, Operator]:
    """The rows of operators that differ from a family alike; ``inputs`` may be given in words."""
    if isinstance(different.get("inputs"), str):
        different["inputs"] = Inputs.of(different["inputs"])
    return {name: replace(family, **different) for name in names.split()}


def family(**different: Any) -> Operator:
    """A family as it differs from ``PLAIN``."""
    return like(PLAIN, "family", **different)["family"]


POSITIVE = (0.0, math.inf)
UNIT = (0.0, 1.0)
BOTH_SIDES = (-1.0, 1.0)

COMPUTES = family(
    kind=Kind.COMPUTE,
    kernel=Kernel.FAST,
    interval=Interval.CHANNELS,
    data_free=DataFree.LINEAR,
    ties=Ties.ABSORBED,
    rows=BatchRows.APART,
)
MAPS = family(rows=BatchRows.APART, pointwise=True)  # y[i] = f(x[i])
COMBINES = family(inputs="data data", rows=BatchRows.BROADCAST, pointwise=True)  # y[i] = f(a[i], b[i])
POOLS = family(rows=BatchRows.APART, ties=Ties.POOLED, data_free=DataFree.CHANNELS)
REDUCES = family(inputs="data other", rows=BatchRows.REDUCE)
NORMALIZES = family(inputs="data weight weight", rows=BatchRows.APART)
MOVES = family(
    kind=Kind.MOVEMENT,
    kernel=Kernel.FAST,
    movement=Movement.FIRST,
    rows=BatchRows.APART,
    interval=Interval.PICKED,
    data_free=DataFree.MIXED,
    ties=Ties.MOVED,
)
PICKS = family(kind=Kind.MOVEMENT, movement=Movement.FIRST, interval=Interval.HULL)
RECURRENT = family(kind=Kind.FLOAT, note="a recurrent operator has no 8-bit form between Q and DQ")
DELICATE = family(kind=Kind.FLOAT, note="its result depends on more than 8 bits can say")
LEAPS = family(kind=Kind.FLOAT, rows=BatchRows.APART, note="its result leaps where its input barely moves")
MAKES = family(kind=Kind.FLOAT, note="it makes values rather than computing with activations")
UNUSUAL = family(kind=Kind.FLOAT, note="no toolchain runs it in 8 bits")
QUANTIZED = family(kind=Kind.FLOAT, note="the operator is quantized already")
SUBGRAPHS = family(kind=Kind.SUBGRAPH, note="a subgraph stays float32")
OTHERS = family(kind=Kind.OTHER)
COMPARES = replace(OTHERS, inputs=Inputs.of("data data"), rows=BatchRows.BROADCAST)
