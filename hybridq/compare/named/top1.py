"""``top1:labels.txt``: how often the first choice is right."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hybridq.compare.named.common import Metric, Outputs, classes, first
from hybridq.errors import HybridqError
from hybridq.files.reading import look_at

HINT = "Give top1:LABELS.txt with one class number a line, in the order of the dataset."


@dataclass(frozen=True)
class Top1:
    """The share of rows whose class, of the first output, is the label of their line, 0 to 1."""

    labels: tuple[int, ...]
    digest: str
    name: str = field(default="top1")

    def __call__(self, outputs: list[Outputs]) -> float:
        """The score of a model. Raises HybridqError where there are not as many labels as rows."""
        found = np.concatenate([np.ravel(classes(first(one))) for one in outputs])
        if found.size != len(self.labels):
            raise HybridqError(f"{len(self.labels)} labels for {found.size} rows of the first output", hint=HINT)
        return float(np.mean(found == np.array(self.labels)))


def top1(argument: str) -> Metric:
    """The metric with the labels of a file. Raises HybridqError with the line that is no class number."""
    if not argument:
        raise HybridqError("top1 needs labels", hint=HINT)
    path = Path(argument)
    look_at(path, HybridqError, hint=HINT)
    data = path.read_bytes()
    labels = []
    for line, text in enumerate(data.decode(errors="replace").split(), 1):
        if not text.lstrip("-").isdecimal():
            raise HybridqError(f"'{text[:40]}' is no class number", path=str(path), line=line, hint=HINT)
        labels.append(int(text))
    return Top1(tuple(labels), hashlib.sha256(data).hexdigest())
