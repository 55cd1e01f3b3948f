"""An engine's own plain 8 bits: made by its own quantizer into a folder, and opened from there.

``quantize_static`` with minimum and maximum for ONNX Runtime, NNCF's ``quantize`` for OpenVINO, ai-edge-quantizer's
recipe for int8 with minimum and maximum of all samples for LiteRT. Those of MNN and ncnn take pictures alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import version_converter
from simulators import called, samples
from subjects import Subject

from hybridq.engines.litert import LiteRTSession, converted, float_of, interpreter_of, places_of
from hybridq.engines.openvino import compiled
from hybridq.engines.records import Runner
from hybridq.exchange.litert_quantize import measured, values_of
from hybridq.graph.runtime import Feed, session

CONTENDERS = Path(__file__).resolve().parent / "contenders"
QUANTIZED, TFLITE, CONVERTED = "quantized.onnx", "plain.tflite", "converted"


def make(name: str, subject: Subject, nncf: Path | None, folder: Path) -> bool:
    """Quantize a model; False where the engine has no quantizer here that takes arrays."""
    model = recent(subject.path, folder)
    if name == "litert":
        _litert(model, folder, subject.calibration)
        return True
    scripts = {"onnxruntime": ("by_onnxruntime.py", Path(sys.executable)), "openvino": ("by_nncf.py", nncf)}
    script, python = scripts.get(name, ("", None))
    if python is None:
        return False
    samples(subject, folder, "calibration")
    options = ["MinMax"] if name == "onnxruntime" else []
    called(python, CONTENDERS / script, folder, model, folder, *options)
    return True


def opened(name: str, subject: Subject, folder: Path) -> Runner | None:
    """What ``make`` left, opened with one thread; None where it left nothing."""
    if (folder / TFLITE).exists():
        return _opened_litert(subject, folder)
    if not (folder / QUANTIZED).exists():
        return None
    if name == "onnxruntime":
        return session(folder / QUANTIZED, threads=1)
    import openvino

    return compiled(openvino.Core(), folder / QUANTIZED, 1, subject.evaluation[0])


def recent(path: Path, folder: Path) -> Path:
    """The model at an opset that other tools take."""
    model = onnx.load(path)
    if max(one.version for one in model.opset_import if not one.domain) >= 13:
        return path
    onnx.save(version_converter.convert_version(model, 17), folder / "recent.onnx")
    return folder / "recent.onnx"


def _litert(model: Path, folder: Path, feeds: Sequence[Feed]) -> None:
    from ai_edge_quantizer import quantizer, recipe

    path = converted(model, folder / CONVERTED)
    tool = quantizer.Quantizer(str(path))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    calibrated = measured(values_of(str(path), [dict(feed) for feed in feeds]))
    tool.quantize(calibrated).export_model(str(folder / TFLITE), overwrite=True)


def _opened_litert(subject: Subject, folder: Path) -> LiteRTSession:
    runner, feed = session(subject.path, threads=1), subject.calibration[0]
    inputs = tuple(i.name for i in runner.get_inputs())
    given = interpreter_of(float_of(folder / CONVERTED), inputs, 1)
    places = tuple(places_of(given, inputs, feed, runner.run(None, dict(feed))))
    return LiteRTSession(interpreter_of(folder / TFLITE, inputs, 1), inputs, places)
