"""ONNX Runtime: the hybrid model as step2 builds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from hybridq.build.builder import build
from hybridq.engines.records import Loaded, write_float
from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed, session


def load(view: View, folder: Path, threads: int, samples: Sequence[Feed] = ()) -> Loaded:
    """Sessions on the CPU, fully optimized."""
    given, hybrid = write_float(view, folder / "float.onnx"), folder / "hybrid.onnx"
    build(view.model, view.plan, view.weights).write(hybrid)
    return Loaded(onnxruntime.__version__, session(given, threads=threads), session(hybrid, threads=threads))
