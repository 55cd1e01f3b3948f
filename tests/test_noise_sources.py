"""The noise model sees what will be built: every 8-bit quantizer of a plan is a source, once, where it stands."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_graphs import F32, U8, case_of, normal
from helpers_graphs import given as graph
from random_graphs import random_case

from hybridq.search.allocation.additive_noise import pairs
from hybridq.search.measuring.quantizers import sources


@pytest.mark.parametrize("seed", range(30))
def test_every_rounded_edge_has_a_source(seed: int) -> None:
    case = random_case(seed)
    random = np.random.default_rng(seed)
    names = [x.name for x in case.model.layers if not x.float_only]
    plan = case.plan({n: U8 if random.random() < 0.5 else F32 for n in names})
    keys = {key for source in sources(case.model, plan, case.weights) for key in source.forms}
    for layer in case.model.layers:
        for group in {case.model.group_of[i].name for i in layer.inputs if i in case.model.group_of}:
            rounded = plan.read(group, layer.name).qparams is not None
            assert rounded == (("tensor", group) in keys or ("edge", group, layer.name) in keys)


def test_what_a_conversion_costs_goes_with_its_reader() -> None:
    """The input is read in float and in 8 bits: raising the reader in 8 bits takes the conversion's noise away."""
    rows = [("Conv", "x w", "a"), ("Conv", "x v", "b")]
    case = case_of(graph(rows, {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1)}, ["a", "b"]))
    plan = case.plan({"a": F32, "b": U8})
    assert plan.groups["x"].stored.is_float
    found = sources(case.model, plan, case.weights)
    damage = np.array([7.0 if s.group == "x" else 0.0 for s in found])
    model = pairs(case.model, plan, found, damage, dict.fromkeys([g.name for g in case.model.groups], 1.0))
    assert model.total == 7.0
    assert model.damage(np.array([True])) == 0.0
