"""What an engine gives: the float and the hybrid model, loaded and ready to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed
from hybridq.storage.state import assemble


def write_float(view: View, path: Path) -> Path:
    """The float model as it was given, canonical, without any repair."""
    onnx.save(assemble(view.model.proto, view.weights.plain()), path)
    return path


class Runner(Protocol):
    """A model in a runtime; called as an ONNX Runtime session is."""

    def run(self, names: None, feed: Feed, /) -> Sequence[NDArray[Any]]:
        """The outputs in the model's order, in the layout of the ONNX model."""


@dataclass(frozen=True)
class Loaded:
    """``given`` is the float model, ``hybrid`` the result, as ``version`` of a runtime runs them."""

    version: str
    given: Runner
    hybrid: Runner
    notes: tuple[str, ...] = ()


Load = Callable[[View, Path, int, Sequence[Feed]], Loaded]  # the result, a folder for files, threads, samples


@dataclass(frozen=True, slots=True)
class Engine:
    """A runtime. ``modules`` must import, ``extra`` is what pip installs them by; ``programs`` are on the path."""

    title: str
    extra: str
    modules: tuple[str, ...]
    load: Load
    programs: tuple[str, ...] = ()
