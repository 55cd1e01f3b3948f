"""The steps as plain functions over paths.

step1(model, dataset, out)   calibrate: model.json, weights.data, model.quantization.cfg
step2(out)                   validate the cfg, build hybrid.onnx and build.json
step3(out)                   run float and hybrid on data, compare, write the report
step4(out, format)           hand the result to another toolchain
"""

from hybridq.steps.common import HYBRID, Progress
from hybridq.steps.step1 import Step1Result, step1
from hybridq.steps.step2 import Step2Result, check, step2
from hybridq.steps.step3 import step3
from hybridq.steps.step4 import Step4Result, import_file, step4

__all__ = [
    "HYBRID",
    "Progress",
    "Step1Result",
    "Step2Result",
    "Step4Result",
    "check",
    "import_file",
    "step1",
    "step2",
    "step3",
    "step4",
]
