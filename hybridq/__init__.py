"""hybridq: mixed-precision quantization of ONNX models that finds what 8 bits break, mends it and proves it.

``hybridq.step1``, ``check``, ``step2`` and ``step3`` are the words of the command line as functions; they return frozen
dataclasses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridq.steps.step1 import step1
    from hybridq.steps.step2 import check, step2
    from hybridq.steps.step3 import step3

__all__ = ["__version__", "check", "step1", "step2", "step3"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The steps, imported when first asked for: every module below imports this package first."""
    if name in __all__:
        return getattr(import_module("hybridq.steps"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
