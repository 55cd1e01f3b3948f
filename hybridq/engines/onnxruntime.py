"""ONNX Runtime: the hybrid model as step2 builds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from hybridq.build.builder import build
from hybridq.engines.records import Loaded, write_float
from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed, session


def make(view: View, folder: Path, samples: Sequence[Feed]) -> tuple[str, ...]:
    """Two ONNX files."""
    write_float(view, folder / "float.onnx")
    build(view.model, view.plan, view.weights).write(folder / "hybrid.onnx")
    return ()


def opened(view: View, folder: Path, threads: int, feed: Feed) -> Loaded:
    """Sessions on the CPU, fully optimized."""
    given, hybrid = (session(folder / f"{name}.onnx", threads=threads) for name in ("float", "hybrid"))
    return Loaded(onnxruntime.__version__, given, hybrid)
