"""What an engine does: make its own files of a result, and open the float and the hybrid one, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.exchange.view import View
from hybridq.graph.fixed import fix, is_open
from hybridq.graph.runtime import Feed
from hybridq.storage.state import assemble


def write_float(view: View, path: Path, feed: Feed | None = None) -> Path:
    """The float model as it was given, canonical, without any repair; with ``feed`` open axes are as long as there."""
    whole = assemble(view.model.proto, view.weights.plain())
    if feed is not None and is_open(view.model):
        fix(whole, feed)
    onnx.save(whole, path)
    return path


def shapes_of(feed: Feed) -> dict[str, tuple[int, ...]]:
    """The shape of every input."""
    return {name: np.shape(values) for name, values in feed.items()}


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


Make = Callable[[View, Path, Sequence[Feed]], tuple[str, ...]]  # the result, a folder for files, samples: notes
Open = Callable[[View, Path, int, Feed], Loaded]  # the result, the folder, threads, a sample


@dataclass(frozen=True, slots=True)
class Engine:
    """A runtime. ``modules`` must import, ``extra`` is what pip installs them by; ``programs`` are on the path.

    ``any_shape``: it runs samples of several shapes; others get the model with the shapes of one sample.
    """

    title: str
    extra: str
    modules: tuple[str, ...]
    make: Make
    open: Open
    programs: tuple[str, ...] = ()
    any_shape: bool = False

    def load(self, view: View, folder: Path, threads: int, samples: Sequence[Feed]) -> Loaded:
        """Both models made in ``folder`` and opened; ``samples`` calibrate what has no range of ours.

        Raises EngineError where the runtime or its converter does not take the model.
        """
        alike = [s for s in samples if self.any_shape or shapes_of(s) == shapes_of(samples[0])]
        notes = self.make(view, folder, alike)
        return replace(self.open(view, folder, threads, alike[0]), notes=notes)
