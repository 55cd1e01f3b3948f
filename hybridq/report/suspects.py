"""Which layers are suspected: those that alone lose far more than the others; or none, where the damage is spread."""

from __future__ import annotations

import math
import statistics

from hybridq.compare import ComparisonReport, LayerReport
from hybridq.report.known import Known
from hybridq.report.words import decibels

LOW = ("uint8", "int8")
GUILTY_DB = 12.0  # below the median of the layers in 8 bits: such a layer does what the others do not
HARMLESS_DB = 20.0  # individually: such a layer is not what breaks a model
MOST = 3  # layers


def low_layers(report: ComparisonReport, known: Known) -> list[LayerReport]:
    """Layers in 8 bits that were measured alone, the most damaged first."""
    found = [x for x in report.layers if x.precision in LOW and x.individual and x.name not in known.by_design]
    return sorted(found, key=alone_db)


def harmed_alone(report: ComparisonReport, known: Known) -> list[LayerReport]:
    """Those of ``low_layers`` that would be suspected, were it not for their readers."""
    return [x for x in low_layers(report, known) if alone_db(x) < HARMLESS_DB]


def suspected(report: ComparisonReport, known: Known) -> list[LayerReport]:
    """Layers that alone lose far more than most do; not those that lose what no reader hears."""
    limit = blamed_below(report, known)
    return [] if limit is None else [x for x in _heard(report, known) if alone_db(x) < limit][:MOST]


def blamed_below(report: ComparisonReport, known: Known) -> float | None:
    """Individually, in dB: what is below does what most layers do not; None where none in 8 bits was measured."""
    layers = _heard(report, known)
    return min(statistics.median(map(alone_db, layers)) - GUILTY_DB, HARMLESS_DB) if layers else None


def _heard(report: ComparisonReport, known: Known) -> list[LayerReport]:
    return [x for x in low_layers(report, known) if x.name not in known.trimmed]


def spread(report: ComparisonReport, known: Known) -> str:
    """The cause where no layer is suspected, in words."""
    limit = blamed_below(report, known)
    deaf = any(x.name in known.trimmed and limit is not None and alone_db(x) < limit for x in low_layers(report, known))
    which = "none that its readers hear" if deaf else "none"
    bound = "" if limit is None else f" ({which} is below {decibels(limit)} alone)"
    return f"no layer stands out{bound}: each loses a little, and the losses add up"


def alone_db(layer: LayerReport) -> float:
    """The SQNR in dB of the only quantized layer; infinite where it was not measured."""
    return layer.individual.sqnr_db if layer.individual else math.inf


def is_spread(report: ComparisonReport, known: Known) -> bool:
    """Whether all layers lose, and none of them stands out."""
    return bool(low_layers(report, known)) and not suspected(report, known)
