"""What tests of comparisons share: a float model of two heads, its samples, ranges and quantized form."""

from __future__ import annotations

from typing import Any

import onnx
import qdq_models
from numpy.typing import NDArray

from hybridq.compare import Runs, compare
from hybridq.compare.probes import expose
from hybridq.graph import runtime

FLOAT = qdq_models.two_heads()
SAMPLES = qdq_models.samples()
WEIGHTS = ["stem.w", "body.w", "box.w", "score.w"]


def _ranges() -> dict[str, tuple[float, float]]:
    names = [*qdq_models.LAYERS, "out"]
    session = runtime.session(expose(FLOAT, names), threads=1)
    seen: dict[str, list[NDArray[Any]]] = {"x": [s["x"] for s in SAMPLES]}
    for sample in SAMPLES:
        for name, value in zip(names, runtime.run(session, sample, names), strict=True):
            seen.setdefault(name, []).append(value)
    return {k: (float(min(v.min() for v in vs)), float(max(v.max() for v in vs))) for k, vs in seen.items()}


RANGES = _ranges()
HYBRID = qdq_models.quantized(FLOAT, RANGES, WEIGHTS)


def compared(hybrid: onnx.ModelProto, **options: Any) -> Any:
    return compare(FLOAT, hybrid, SAMPLES, runs=Runs(threads=1), **options)
