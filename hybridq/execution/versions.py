"""What a report of a fault needs to know of the machine: versions, and nothing that names anybody."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from hybridq import __version__

PACKAGES = ("numpy", "onnx", "onnxruntime", "protobuf")


def versions() -> dict[str, str]:
    """Versions of hybridq, Python and what hybridq computes with; the system, and how many processors it has."""
    found = {"hybridq": __version__, "python": platform.python_version()}
    found |= {name: version(name) for name in PACKAGES}
    system = {"system": platform.system(), "machine": platform.machine(), "processors": str(os.cpu_count() or 0)}
    return found | system


def told(found: dict[str, str]) -> str:
    """On one line, for a message."""
    return ", ".join(f"{name} {number}" for name, number in found.items())
