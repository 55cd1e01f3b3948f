"""LiteRT (TFLite): a ``quantize.py`` that gives ai-edge-quantizer a recipe and ranges, with model, plan and samples.

The tool quantizes a float ``.tflite`` that any converter made of ``model.onnx``; its recipe goes by names that the
converter chose, so ``quantize.py`` finds each layer by its values (``litert_quantize.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from hybridq.exchange.losses import weights_stay
from hybridq.exchange.onnx_float import float_file, shapes_told
from hybridq.exchange.records import Content, Export, ExportOptions, lost
from hybridq.exchange.restate import in_terms
from hybridq.exchange.view import View
from hybridq.quant.dtypes import Precision

SAMPLES = 20
BECOMES = {Precision.UINT8: Precision.INT8, Precision.FLOAT16: Precision.FLOAT32}


def write(view: View, options: ExportOptions) -> Export:
    """The float model with its repairs, the plan, samples, and the script."""
    theirs, problems = in_terms(view, "tflite", "litert", BECOMES)
    plan = {
        "inputs": list(view.model.inputs),
        "layers": {x.name: str(x.precision) for x in theirs.layers if x.name in view.tensor},
        "float": [t.name for t in theirs.tensors if not (t.layer or t.is_input or t.stored.qparams)],
        "ranges": {t.name: [t.range.min, t.range.max] for t in theirs.tensors if t.stored.qparams},
    }
    if not options.samples:
        problems.append(
            lost("no samples are known: put samples.npz beside quantize.py, an array an input, samples first")
        )
    script = (files("hybridq.exchange") / "litert_quantize.py").read_bytes()
    found: dict[str, Content] = {
        "model.onnx": float_file(view, feed=next(iter(options.samples), None)).write,
        "plan.json": (json.dumps(plan, indent=1) + "\n").encode(),
        "quantize.py": script,
    }
    if options.samples:
        found["samples.npz"] = _samples(options, view)
    return Export(found, [*problems, *shapes_told(view, options), *weights_stay(view)])


def _samples(options: ExportOptions, view: View) -> Callable[[Path], object]:
    """What enters the model, after mean and std, an array an input."""
    feeds = options.samples[:SAMPLES]

    def save(path: Path) -> None:
        arrays: dict[str, Any] = {}
        for i, name in enumerate(view.model.inputs):
            values = np.stack([np.asarray(feed[name], np.float32) for feed in feeds])
            if options.mean:
                shape = [1, 1, -1, *[1] * (values.ndim - 3)]
                values = (values - np.reshape(options.mean[i], shape)) / np.reshape(options.std[i], shape)
            arrays[name] = values.astype(np.float32)
        np.savez(path, **arrays)

    return save
