"""The steps as plain functions over paths: step1, check, step2, step3, step4, auto, and the edits of a cfg.

The only code beside ``cli``, ``files``, ``dataset`` and ``storage`` that touches a disk. Options are frozen dataclasses
that check themselves (``options``), and the command line is made of them.
"""

from hybridq.execution.progress import Progress
from hybridq.steps.calibrating import Step1Result
from hybridq.steps.common import HYBRID
from hybridq.steps.step1 import step1
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
