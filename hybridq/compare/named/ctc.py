"""``ctc:keys.txt``: how far the text that a recognizer reads is the float model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.named.common import Against, Array, Metric, Outputs, first
from hybridq.errors import HybridqError
from hybridq.files.reading import look_at

HINT = "Give ctc:KEYS.txt with one character a line, in the order of the classes behind the blank."
BLANK = 0


def ctc(argument: str) -> Metric:
    """The metric with the characters of a file. Raises HybridqError where there are none."""
    if not argument:
        raise HybridqError("ctc needs the characters", hint=HINT)
    path = Path(argument)
    look_at(path, HybridqError, hint=HINT)
    keys = path.read_bytes().decode(errors="replace").removesuffix("\n").split("\n")
    keys = [key.removesuffix("\r") for key in keys]
    if not any(keys):
        raise HybridqError("holds no character", path=str(path), hint=HINT)
    return Against("ctc", lambda reference, outputs: accuracy(keys, reference, outputs))


def accuracy(keys: Sequence[str], reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    """``1 - edits / float's characters`` over all samples, at least 0; see ``read``."""
    edits = count = 0
    for a, b in zip(reference, outputs, strict=True):
        for one, other in zip(read(first(a), keys), read(first(b), keys), strict=True):
            edits += distance(one, other)
            count += len(one)
    return max(0.0, 1.0 - edits / max(count, 1))


def read(values: Array, keys: Sequence[str]) -> list[str]:
    """The texts of an output ``(batch, steps, classes)``, or ``(steps, 1, classes)``.

    The best class of every step, repeats taken once, blanks (class 0) left out. Class i > 0 is line i of the keys; one
    class more than that is a space. Raises HybridqError where the classes are others.
    """
    if values.ndim == 3 and values.shape[1] == 1 < values.shape[0]:
        values = values.transpose(1, 0, 2)
    classes = values.shape[-1]
    if values.ndim != 3 or classes not in (len(keys) + 1, len(keys) + 2):
        raise HybridqError(f"{len(keys)} characters for an output of {list(values.shape)}", hint=HINT)
    letters = ["", *keys, " "]
    return ["".join(letters[c] for c in _collapsed(row)) for row in values.argmax(-1)]


def _collapsed(best: NDArray[np.int64]) -> list[int]:
    change = np.flatnonzero(np.diff(best, prepend=-1))
    return [int(c) for c in best[change] if c != BLANK]


def distance(one: str, other: str) -> int:
    """The least number of insertions, deletions and replacements (Levenshtein, 1966)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
