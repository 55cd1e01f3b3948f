"""Run the float and the hybrid model on the same data and measure what differs: a ``ComparisonReport``.

Outputs as a whole and slice by slice, every layer within the model and alone, size, time, a metric of the user's; and
ONNX Runtime against itself, whether it computes what the file says. Decides nothing.
"""

from hybridq.compare.by_name import pairs_by_name
from hybridq.compare.drift import DriftWatch
from hybridq.compare.metric import Metric, Outputs, load_function, load_metric
from hybridq.compare.results import (
    BoardLayer,
    BoardReport,
    ComparisonReport,
    Drift,
    LayerHistogram,
    LayerPair,
    LayerReport,
    LoopCourse,
    LoopReport,
    MetricReport,
    OutputReport,
    RuntimeReport,
    Sizes,
    SliceReport,
    TensorFigures,
    Timing,
)
from hybridq.compare.run import Outside, Runs, compare, layer_pairs
from hybridq.compare.shards import Inside

__all__ = [
    "BoardLayer",
    "BoardReport",
    "ComparisonReport",
    "Drift",
    "DriftWatch",
    "Inside",
    "LayerHistogram",
    "LayerPair",
    "LayerReport",
    "LoopCourse",
    "LoopReport",
    "Metric",
    "MetricReport",
    "OutputReport",
    "Outputs",
    "Outside",
    "Runs",
    "RuntimeReport",
    "Sizes",
    "SliceReport",
    "TensorFigures",
    "Timing",
    "compare",
    "layer_pairs",
    "load_function",
    "load_metric",
    "pairs_by_name",
]
