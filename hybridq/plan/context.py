"""``Context``: everything that a plan is made from."""

from __future__ import annotations

from dataclasses import dataclass

from hybridq.graph.model import Model
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.storage.weights import Weights
from hybridq.targets import Target


@dataclass(frozen=True, slots=True)
class Context:
    """The model, what step1 measured and decided, the cfg as people edited it, the weights and the target.

    ``portable``: the plan is for other runtimes than ONNX Runtime as well.
    """

    model: Model
    calibrated: Calibrated
    config: QuantConfig
    weights: Weights
    target: Target
    portable: bool = False
