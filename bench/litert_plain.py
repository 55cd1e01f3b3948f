"""ai-edge-quantizer as it comes: its own recipe for int8, minimum and maximum of all calibration samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybridq.engines.litert import LiteRTSession, converted, interpreter_of, places_of
from hybridq.exchange.litert_quantize import measured, values_of
from hybridq.graph.runtime import Feed, session


def made(model: Path, folder: Path, feeds: Sequence[Feed]) -> LiteRTSession:
    """The model converted, quantized, and interpreter_of with one thread."""
    from ai_edge_quantizer import quantizer, recipe

    path, out = converted(model, folder / "plain"), folder / "plain.tflite"
    tool = quantizer.Quantizer(str(path))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    calibrated = measured(values_of(str(path), [dict(feed) for feed in feeds]))
    tool.quantize(calibrated).export_model(str(out), overwrite=True)
    runner = session(model, threads=1)
    inputs = tuple(i.name for i in runner.get_inputs())
    expected = runner.run(None, dict(feeds[0]))
    places = tuple(places_of(interpreter_of(path, inputs, 1), inputs, feeds[0], expected))
    return LiteRTSession(interpreter_of(out, inputs, 1), inputs, places)
