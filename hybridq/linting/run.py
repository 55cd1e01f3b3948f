"""What will go wrong in 8 bits, told before anything is run: each finding names a layer, its fate and the remedy.

Everything follows from what step1 knows: the graph, the weights, and the ranges of every tensor. Layers that step1
leaves in float32 by itself, and shared scales that the target does not have, are no findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from hybridq.calibration.statistics import TensorStatistics
from hybridq.graph.model import Model
from hybridq.linting import branches, kernels, listed, mixing, states, values
from hybridq.linting.facts import Facts, Finding
from hybridq.plan.plan import make_plan
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.storage.weights import Weights
from hybridq.targets import Target

Rule = Callable[[Facts], Iterator[Finding]]

RULES: dict[str, Rule] = {
    "concat": mixing.concats,
    "mixed output": mixing.outputs,
    "squashed": values.squashed,
    "channel spread": kernels.channels,
    "coarse": values.coarse,
    "state": states.states,
    "outlier": values.outliers,
    "sum": mixing.sums,
    "zero": values.zeros,
    "unsettled": values.unsettled,
    "slow": kernels.slow,
    "gainless": kernels.gainless,
    "larger": kernels.larger,
    "listed": listed.listed,
    "branches": branches.branches,
}


def lint(
    model: Model,
    weights: Weights,
    calibrated: Calibrated,
    target: Target,
    stats: Mapping[str, TensorStatistics] | None = None,
) -> tuple[Finding, ...]:
    """Findings, warnings first, for the model as step1 would have it built.

    ``stats`` has the statistics of the groups' sources: with them inputs of a Concat have ranges of their own.
    Remedies agree with each other: a target that takes few precisions in a model gets the widest that any needs.
    """
    plan = make_plan(model, calibrated, QuantConfig(calibrated.target, {}, calibrated.entries, {}), weights)
    facts = Facts(model, weights, calibrated, target, plan, stats or {})
    found = [f for rule in RULES.values() for f in rule(facts)]
    set_to = {f.precision for f in found if f.precision is not None and (f.severity == "warning" or f.code != "coarse")}
    if target.max_kinds is not None and len(set_to) >= target.max_kinds:
        facts = replace(facts, least=max(set_to, key=facts.wider.index))
        found = [f for rule in RULES.values() for f in rule(facts)]
    return tuple(sorted(found, key=lambda f: f.severity != "warning"))
