"""OpenVINO on the CPU: the portable model, which it reads as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.build.builder import build
from hybridq.engines.records import Loaded, write_float
from hybridq.errors import EngineError
from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed
from hybridq.plan.plan import make_plan


@dataclass(frozen=True)
class Compiled:
    """A compiled model; one request, used again."""

    request: Any
    count: int

    def run(self, names: None, feed: Feed) -> Sequence[NDArray[Any]]:
        """Outputs in order."""
        self.request.infer(dict(feed), share_inputs=True)
        return [np.array(self.request.get_output_tensor(i).data) for i in range(self.count)]


def make(view: View, folder: Path, samples: Sequence[Feed]) -> tuple[str, ...]:
    """The float file, and the result as a portable one."""
    write_float(view, folder / "float.onnx")
    plan = make_plan(view.model, view.calibrated, view.config, view.weights, portable=True)
    build(view.model, plan, view.weights).write(folder / "hybrid.onnx")
    return ()


def opened(view: View, folder: Path, threads: int, feed: Feed) -> Loaded:
    """Both compiled for the CPU in float32 where they are not in integers."""
    import openvino

    core = openvino.Core()
    given, hybrid = (compiled(core, folder / f"{name}.onnx", threads) for name in ("float", "hybrid"))
    return Loaded(openvino.__version__.split("-")[0], given, hybrid)


def compiled(core: Any, path: Path, threads: int) -> Compiled:
    """A model on the CPU. Raises EngineError with OpenVINO's reason."""
    words = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    words |= {"INFERENCE_NUM_THREADS": str(threads)} if threads else {}
    try:
        found = core.compile_model(str(path), "CPU", words)
    except RuntimeError as error:
        raise EngineError("OpenVINO does not take the model", path=path.name, hint=str(error)[:400]) from error
    return Compiled(found.create_infer_request(), len(found.outputs))
