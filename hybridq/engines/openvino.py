"""OpenVINO on the CPU: the portable model, which it reads as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.build.builder import build
from hybridq.engines.records import Loaded, shapes_of, write_float
from hybridq.errors import EngineError
from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed
from hybridq.plan.plan import make_plan


@dataclass(frozen=True)
class Compiled:
    """A model, compiled for the shapes that it is run on, since open axes give wrong numbers in integers.

    OpenVINO 2026.4 then adds the first channel's bias to every channel of a Conv that a Concat reads: the boxes of a
    detector came out at 11 dB, and at 44 with the axes fixed.
    """

    core: Any
    model: Any
    words: dict[str, str]
    requests: dict[frozenset[tuple[str, tuple[int, ...]]], Any] = field(default_factory=dict)

    def run(self, names: None, feed: Feed) -> Sequence[NDArray[Any]]:
        """Outputs in order. Raises EngineError with OpenVINO's reason."""
        request = self.request(feed)
        request.infer(dict(feed), share_inputs=True)
        return [np.array(request.get_output_tensor(i).data) for i in range(len(self.model.outputs))]

    def request(self, feed: Feed) -> Any:
        """What runs samples of a feed's shapes. Raises EngineError with OpenVINO's reason."""
        shapes = shapes_of(feed)
        key = frozenset(shapes.items())
        if key not in self.requests:
            with _told():
                if self.model.is_dynamic():
                    self.model.reshape({name: list(shape) for name, shape in shapes.items()})
                self.requests[key] = self.core.compile_model(self.model, "CPU", self.words).create_infer_request()
        return self.requests[key]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise EngineError("OpenVINO does not take the model", hint=str(error)[:400]) from error


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
    given, hybrid = (compiled(core, folder / f"{name}.onnx", threads, feed) for name in ("float", "hybrid"))
    return Loaded(openvino.__version__.split("-")[0], given, hybrid)


def compiled(core: Any, path: Path, threads: int, feed: Feed) -> Compiled:
    """A model on the CPU, ready for samples of a feed's shapes. Raises EngineError with OpenVINO's reason."""
    words = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    words |= {"INFERENCE_NUM_THREADS": str(threads)} if threads else {}
    with _told():
        model = core.read_model(str(path))
    found = Compiled(core, model, words)
    found.request(feed)
    return found
