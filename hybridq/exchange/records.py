"""What writers give (files, and what those cannot say) and readers (what is asked, and what of it is unknown)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hybridq.errors import Problem
from hybridq.graph.runtime import Feed
from hybridq.plan.quant_plan import Stored
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams, Range


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a format is written. ``name`` is the model's; ``only_io``: model inputs and outputs alone.

    ``samples`` are calibration samples by input, in the model's layout but before mean and std; ``mean`` and ``std``
    hold one list an input, one number a channel, and are empty where values are left as they are.
    """

    name: str
    only_io: bool = False
    samples: Sequence[Feed] = ()
    mean: tuple[tuple[float, ...], ...] = ()
    std: tuple[tuple[float, ...], ...] = ()


Content = bytes | Callable[[Path], object]  # a file's bytes, or what writes them to a path


@dataclass(frozen=True)
class Export:
    """Files by name (a format of one file has one), and line by line what they cannot say."""

    files: Mapping[str, Content]
    losses: list[Problem] = field(default_factory=list)


@dataclass
class Wanted:
    """What a foreign file asks for, by our names.

    ``layers`` get a precision; ``selectors`` are keys of our own cfg with what they ask, the first on ``line``.
    ``ranges`` are real ranges and ``parameters`` scales and zero points of groups, by key; ``weights`` of weights.
    ``edits`` are fields of entries as our own cfg has them. ``seen`` counts what was understood, wherever it says what
    step1 chose already; ``problems`` lists, line by line, what has no counterpart.
    """

    layers: dict[str, Precision] = field(default_factory=dict)
    selectors: dict[str, str] = field(default_factory=dict)
    line: int = 0
    ranges: dict[str, Range] = field(default_factory=dict)
    parameters: dict[str, Stored] = field(default_factory=dict)
    weights: dict[str, QParams] = field(default_factory=dict)
    edits: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: int = 0
    problems: list[Problem] = field(default_factory=list)


def put(path: Path, content: Content) -> None:
    """Write a file of an export, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


def dumped(data: object) -> bytes:
    """JSON as every format here has it."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def double_text(value: float) -> str:
    """A float32 as RKNN's tools print it: every digit of the same number as a double."""
    return repr(float(np.float32(value)))


def lost(message: str) -> Problem:
    """One line of what a format cannot say."""
    return Problem(message, severity="warning", code="not-expressed")
