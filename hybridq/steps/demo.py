"""The demo: the three steps on a bundled detector and bundled pictures; float32, all-uint8 and hybrid side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybridq.steps.common import Progress, no_progress


def run_demo(out: Path, *, say: Callable[[Any], None], threads: int = 0, progress: Progress = no_progress) -> None:
    """Run it in ``out``."""
    raise NotImplementedError
