"""OpenVINO, and any runtime that reads QDQ: the portable model, and three lines that run it."""

from __future__ import annotations

from hybridq.build.builder import build
from hybridq.errors import Problem
from hybridq.exchange.records import Export, ExportOptions, lost
from hybridq.exchange.view import View
from hybridq.plan.plan import make_plan
from hybridq.quant.dtypes import Precision

LOADER = '''"""Run {name} with OpenVINO: python run.py"""

import openvino

core = openvino.Core()
model = core.read_model("{name}")
print([i.any_name for i in model.inputs], "->", [o.any_name for o in model.outputs])


def compiled(feed):
    """The model for samples of these shapes: with open axes OpenVINO 2026.4 may add wrong biases in integers."""
    if model.is_dynamic():
        model.reshape({{name: list(array.shape) for name, array in feed.items()}})
    return core.compile_model(model, "CPU")


# feed = {{name: array, ...}}; outputs = compiled(feed)(feed)
'''


def write(view: View, options: ExportOptions) -> Export:
    """The model without what only ONNX Runtime needs, as ``step2 --portable`` builds it."""
    plan = make_plan(view.model, view.calibrated, view.config, view.weights, portable=True)
    file = build(view.model, plan, view.weights)
    name = f"{options.name}.onnx"
    return Export({name: file.write, "run.py": LOADER.format(name=name).encode()}, _losses(view))


def _losses(view: View) -> list[Problem]:
    found = [x.name for x in view.layers if x.precision is Precision.INT16]
    return [lost(f'"{n}": OpenVINO computes int16 layers in float32 on their rounded values') for n in found]
