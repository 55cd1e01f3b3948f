"""hybridq: mixed-precision quantization of ONNX models that finds what 8 bits break, mends it and proves it.

The words of the command line are functions here, with the same options and defaults: ``step1``, ``check``, ``step2``,
``step3``, ``step4``; ``auto`` and ``propose`` (which is ``step1 --proposal``); ``set``, ``unset``, ``list``, ``diff``,
``explain``, ``upgrade``, ``bundle``; ``import_cfg`` (``import`` is a word of Python), ``compare_models`` (``compare``
is a package inside) and ``run_demo``. They return frozen dataclasses and raise ``HybridqError`` with every problem
found. Call them as ``hybridq.set(...)``: two names are those of built-in types.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybridq.errors import HybridqError

if TYPE_CHECKING:
    from hybridq.steps.bundle import bundle
    from hybridq.steps.compare_models import compare_models
    from hybridq.steps.demo import run_demo
    from hybridq.steps.editing import diff, unset
    from hybridq.steps.editing import list_layers as list
    from hybridq.steps.editing import set_precision as set
    from hybridq.steps.explain import explain
    from hybridq.steps.propose import auto, propose
    from hybridq.steps.step1 import step1
    from hybridq.steps.step2 import check, step2
    from hybridq.steps.step3 import step3
    from hybridq.steps.step4 import import_file as import_cfg
    from hybridq.steps.step4 import step4
    from hybridq.steps.upgrade import upgrade

__all__ = [
    "HybridqError",
    "__version__",
    "auto",
    "bundle",
    "check",
    "compare_models",
    "diff",
    "explain",
    "import_cfg",
    "list",
    "propose",
    "run_demo",
    "set",
    "step1",
    "step2",
    "step3",
    "step4",
    "unset",
    "upgrade",
]
__version__ = "0.1.0"

_HOMES = {
    "auto": "propose",
    "bundle": "bundle",
    "check": "step2",
    "compare_models": "compare_models",
    "diff": "editing",
    "explain": "explain",
    "import_cfg": "step4:import_file",
    "list": "editing:list_layers",
    "propose": "propose",
    "run_demo": "demo",
    "set": "editing:set_precision",
    "step1": "step1",
    "step2": "step2",
    "step3": "step3",
    "step4": "step4",
    "unset": "editing",
    "upgrade": "upgrade",
}


def __getattr__(name: str) -> Any:
    """The steps, imported when first asked for: every module below imports this package first."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, function = _HOMES[name].partition(":")
    return getattr(import_module(f"hybridq.steps.{module}"), function or name)
