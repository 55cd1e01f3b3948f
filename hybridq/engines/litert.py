"""LiteRT: both models converted by ``onnx2tf``, the hybrid one quantized by what ``step4 --to litert`` writes.

``onnx2tf`` pins its own ONNX Runtime, so it lives in another environment and is found on the path. Converters move
channels to the end and choose the order of outputs; each is known by its values on one sample.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.engines.records import Loaded, write_float
from hybridq.errors import EngineError
from hybridq.exchange import litert as parameters
from hybridq.exchange.litert_quantize import FOUND, LOST, fed
from hybridq.exchange.records import ExportOptions, put
from hybridq.exchange.view import View
from hybridq.files.temporary import temporary_folder
from hybridq.graph.runtime import Feed, session

PROGRAM = "onnx2tf"
PROBE = "calibration_image_sample_data_20x128x128x3_float32.npy"  # what it compares models on, or downloads
CONVERTED, QUANTIZED = "*_float32.tflite", "quantized.tflite"

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an output of the model lies: among the interpreter's, its shape in the model, whether channels are last."""

    number: int
    shape: tuple[int, ...]
    is_last: bool


@dataclass(frozen=True)
class LiteRTSession:
    """An interpreter; integers at its ends are converted by their scale and zero point."""

    interpreter: Any
    inputs: tuple[str, ...]
    places: tuple[Place, ...]

    def run(self, names: None, feed: Feed) -> Sequence[Values]:
        """Outputs in the model's order and layout."""
        details = self.interpreter.get_input_details()
        for detail, values in zip(details, fed(details, {n: feed[n] for n in self.inputs}), strict=True):
            self.interpreter.set_tensor(detail["index"], _stored(detail, values))
        self.interpreter.invoke()
        found = [_real(d, self.interpreter.get_tensor(d["index"])) for d in self.interpreter.get_output_details()]
        return [_laid(found[p.number], p.shape, p.is_last) for p in self.places]


def make(view: View, folder: Path, samples: Sequence[Feed]) -> tuple[str, ...]:
    """Both converted, one quantized; ``samples`` calibrate what has no range of ours. Raises EngineError."""
    export = folder / "export"
    for name, content in parameters.write(view, ExportOptions("model", samples=samples)).files.items():
        put(export / name, content)
    converted(write_float(view, folder / "float.onnx", samples[0]), folder / "given")
    return _quantized(export, converted(export / "model.onnx", folder / "repaired"))


def opened(view: View, folder: Path, threads: int, feed: Feed) -> Loaded:
    """An interpreter of each; where outputs lie is found on ``feed``. Raises EngineError."""
    inputs = view.model.inputs
    expected = session(folder / "float.onnx", threads=threads).run(list(view.model.outputs), dict(feed))
    paths = (float_of(folder / "given"), float_of(folder / "repaired"), folder / "export" / QUANTIZED)
    given, repaired, hybrid = (interpreter_of(path, inputs, threads) for path in paths)
    place, same = (tuple(places_of(x, inputs, feed, expected)) for x in (given, repaired))
    loaded = (LiteRTSession(given, inputs, place), LiteRTSession(hybrid, inputs, same))
    return Loaded(version("ai-edge-litert"), *loaded)


def converted(source: Path, folder: Path) -> Path:
    """A float ``.tflite`` of a model, in a new folder. Raises EngineError where the converter refuses the model."""
    out = folder / "out"
    out.mkdir(parents=True)
    name, content = _tflite(source.read_bytes(), source.name)
    (out / name).write_bytes(content)
    return float_of(folder)


@lru_cache(maxsize=2)  # a search asks for the same two models with every choice, and a conversion takes long
def _tflite(model: bytes, name: str) -> tuple[str, bytes]:
    """The converter's file and what it calls it; it rewrites what it reads, so it works in a folder of its own."""
    with temporary_folder() as folder:
        (folder / "model.onnx").write_bytes(model)
        np.save(folder / PROBE, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
        quiet = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | quiet
        words = [PROGRAM, "-i", "model.onnx", "-o", "out", "-n"]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        found = sorted((folder / "out").glob(CONVERTED))
        if done.returncode or not found:
            raise EngineError(f"{PROGRAM} does not take the model", path=name, hint=_last(done))
        return found[0].name, found[0].read_bytes()


def float_of(folder: Path) -> Path:
    """The float ``.tflite`` that ``converted`` left in a folder."""
    return min((folder / "out").glob(CONVERTED))


def _quantized(export: Path, model: Path) -> tuple[str, ...]:
    """Quantize a converted model by the script that goes with the export; what that says of layers it did not find."""
    out = export / QUANTIZED
    words = [sys.executable, str(export / "quantize.py"), str(model), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode or not out.exists():
        raise EngineError("ai-edge-quantizer does not take the model", path=model.name, hint=_last(done))
    told = [line for line in done.stdout.splitlines() if FOUND in line or LOST in line]
    return tuple(told)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])


def interpreter_of(path: Path, inputs: tuple[str, ...], threads: int) -> Any:
    """A ``.tflite`` in an interpreter. Raises EngineError where it has not as many inputs as the model.

    What the fast kernels (XNNPACK) refuse, LiteRT's own compute.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        found = Interpreter(str(path), num_threads=max(1, threads), experimental_op_resolver_type=kernels)
        if len(found.get_input_details()) != len(inputs):
            raise EngineError(f"{PROGRAM} gives the model other inputs", path=path.name)
        try:
            found.allocate_tensors()
        except RuntimeError as error:
            refused = error
        else:
            return found
    raise EngineError("LiteRT does not run what was made for it", path=path.name, hint=str(refused)[:400])


def places_of(interpreter: Any, inputs: tuple[str, ...], feed: Feed, expected: Sequence[Values]) -> list[Place]:
    """Where each output lies: the one of its size, in the layout, with the least noise. Raises EngineError."""
    details = interpreter.get_output_details()
    held = tuple(Place(i, tuple(map(int, d["shape"])), False) for i, d in enumerate(details))
    values = LiteRTSession(interpreter, inputs, held).run(None, feed)
    found = []
    for reference in expected:
        fitting = [
            (_noise(reference, _laid(v, reference.shape, is_last)), Place(number, reference.shape, is_last))
            for number, v in enumerate(values)
            if v.size == reference.size
            for is_last in ((False, True) if reference.ndim > 2 else (False,))
        ]
        if not fitting:
            raise EngineError(f"{PROGRAM} leaves no output of {reference.size} elements")
        found.append(min(fitting, key=lambda pair: pair[0])[1])
    return found


def _laid(values: Values, shape: tuple[int, ...], is_last: bool) -> Values:
    """In the model's shape; channels that are last go behind the batch."""
    if not is_last:
        return values.reshape(shape)
    return np.moveaxis(values.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _noise(reference: Values, values: Values) -> float:
    return float(np.square(np.asarray(reference, np.float64) - values).sum())


def _stored(detail: dict[str, Any], values: Values) -> Values:
    scale, zero_point = detail["quantization"]
    if not scale:
        return np.asarray(values, detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    rounded = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
    return np.asarray(rounded, detail["dtype"])


def _real(detail: dict[str, Any], values: Values) -> Values:
    scale, zero_point = detail["quantization"]
    return np.asarray((values.astype(np.float32) - zero_point) * np.float32(scale)) if scale else values
