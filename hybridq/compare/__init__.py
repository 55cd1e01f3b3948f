"""Run the float and the hybrid model on the same data and measure what differs: a ``ComparisonReport``."""

from hybridq.compare.drift import DriftWatch
from hybridq.compare.metric import Metric, load_metric
from hybridq.compare.results import (
    ComparisonReport,
    Drift,
    Figures,
    LayerPair,
    LayerReport,
    MetricReport,
    OutputReport,
    Sizes,
    SliceReport,
    Timing,
)
from hybridq.compare.run import compare, layer_pairs

__all__ = [
    "ComparisonReport",
    "Drift",
    "DriftWatch",
    "Figures",
    "LayerPair",
    "LayerReport",
    "Metric",
    "MetricReport",
    "OutputReport",
    "Sizes",
    "SliceReport",
    "Timing",
    "compare",
    "layer_pairs",
    "load_metric",
]
