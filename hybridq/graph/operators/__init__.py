"""What every ONNX operator means for quantization: one visible table, and the functions that belong to its rows.

``columns`` says which columns there are and what each may say, ``table`` has the rows, ``weights`` computes what
follows from how weights lie. Rules that need more than a node stay where they are used and are found there by what
the column says: ``calibration/datafree.py``, ``linting/spread.py``, ``repair/channels.py`` and
``search/measuring/batch_rows.py``.
See https://onnx.ai/onnx/operators for the operators themselves.
"""

from hybridq.graph.operators.columns import (
    BatchRows,
    Interval,
    Kernel,
    Kind,
    Layout,
    Movement,
    Operator,
    Role,
)
from hybridq.graph.operators.table import TABLE, UNKNOWN, lookup, row_of
from hybridq.graph.operators.weights import (
    averages_windows,
    by_output_channel,
    is_depthwise,
    is_unscaled,
    macs,
    reads_one_channel,
    weight_axis,
)

__all__ = [
    "TABLE",
    "UNKNOWN",
    "BatchRows",
    "Interval",
    "Kernel",
    "Kind",
    "Layout",
    "Movement",
    "Operator",
    "Role",
    "averages_windows",
    "by_output_channel",
    "is_depthwise",
    "is_unscaled",
    "lookup",
    "macs",
    "reads_one_channel",
    "row_of",
    "weight_axis",
]
