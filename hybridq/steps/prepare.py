"""The first half of step 1: the given model made canonical and understood, and the proof that it stayed the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from hybridq.errors import Problem
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.canonical import canonicalize, remarks
from hybridq.graph.cut import cut
from hybridq.graph.given import read_model
from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed
from hybridq.targets import Target

CANONICAL_TOLERANCE = 1e-5
HALF_TOLERANCE = 2e-3  # of a model given in float16, which rounds away that much itself


@dataclass(frozen=True)
class Prepared:
    """The model as given (or the part that was cut out of it), canonical, and our view of it."""

    path: Path
    given: onnx.ModelProto
    is_cut: bool
    proto: onnx.ModelProto
    model: Model

    def difference(self, feed: Feed, threads: int) -> float:
        """Largest difference of an output between given and canonical model, relative to the output's largest value."""
        reference = runtime.run(runtime.session(self.given if self.is_cut else self.path, threads=threads), feed)
        found = runtime.run(runtime.session(self.proto, threads=threads), feed)
        worst = 0.0
        for a, b in zip(reference, found, strict=True):
            if np.issubdtype(a.dtype, np.floating) and a.size:
                peak = float(np.abs(a).max())
                worst = max(worst, float(np.abs(a - b).max()) / peak if peak else float(np.abs(b).max()))
        return worst

    def problems(self, difference: float) -> list[Problem]:
        """How the model was made canonical, and a warning where it is not the given one."""
        notes = remarks(self.proto, str(self.path))
        if difference <= (HALF_TOLERANCE if notes else CANONICAL_TOLERANCE):
            return notes
        message = f"the canonical model differs from the given one by {difference:.2g} of the largest output"
        return [*notes, Problem(message, path=str(self.path), severity="warning", code="canonical")]


def prepare(path: Path, inputs: Sequence[str], outputs: Sequence[str], target: Target) -> Prepared:
    """Read a model, cut it, make it canonical, analyse it. Raises ModelError."""
    given = read_model(path)
    if inputs or outputs:
        given = cut(given, inputs, outputs, str(path))
    proto = canonicalize(given, str(path))
    digest = fingerprint(path, inputs, outputs)
    model = analyse(proto, given, name=path.stem, sha256=digest, ties_outputs=target.ties_outputs)
    return Prepared(path, given, bool(inputs or outputs), proto, model)


def fingerprint(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """The model's fingerprint: its bytes, and what was cut out of it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if inputs or outputs:
        digest.update(json.dumps([list(inputs), list(outputs)]).encode())
    return digest.hexdigest()
