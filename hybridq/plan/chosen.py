"""What is asked of every layer, by the cfg or by default, and what it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hybridq.config.precisions import resolve
from hybridq.plan.context import Context
from hybridq.plan.defaults import default_precisions
from hybridq.quant.dtypes import Precision


@dataclass(frozen=True, slots=True)
class Chosen:
    """By layer: ``asked`` by the cfg or by default, ``done``, and ``why`` that is so where it needs a word."""

    asked: Mapping[str, Precision]
    done: Mapping[str, Precision]
    why: Mapping[str, str]


def chosen_precisions(context: Context) -> Chosen:
    """Asked and done precision of every layer, and why."""
    model, calibrated, choices = context.model, context.calibrated, context.config.choices
    defaults = calibrated.layers or default_precisions(model, context.target, calibrated.default)
    asked = {n: choices[n].precision if n in choices else d.precision for n, d in defaults.items()}
    usual = {n: "" if n in choices else d.why for n, d in defaults.items()}
    resolved = resolve(model, calibrated, asked)
    return Chosen(asked, resolved.done, usual | dict(resolved.why))
