"""Targets as data: what a toolchain or runtime can take, read from ``targets/*.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hybridq.errors import ConfigError
from hybridq.quant.dtypes import Precision, Scheme, Storage

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Support:
    """What a target does at one precision."""

    activation: Storage
    weight: Storage
    bias: str


@dataclass(frozen=True, slots=True)
class Target:
    """A target: its precisions in order of preference (the first is the default) and its habits.

    ``latency_aware``: the model runs on ONNX Runtime, so layers that 8 bits slow down start in float32.
    ``outputs_share``: values concatenated for an output share parameters (NPUs do so; a CPU need not).
    ``inputs_share``: what a Concat joins shares parameters with its result; otherwise it has its own.
    ``concats_separate``: a Concat takes inputs of other scales than its result, so that a cfg may ask for it.
    ``fixed_ranges``: the range of a Sigmoid and the like is taken as known; otherwise it is measured.
    ``limits``: ranges within which an operator's input stays, where only such operators read it.
    ``costs``: by precision, times the time of 8 bits, for ``products`` (what has multiply-accumulates) and ``others``.
    ``fuses``: by operator, the readers that it is computed together with, its result unrounded (``plan/fused.py``).
    ``inherits``: operators whose result has the range of what they read.
    ``whole_pools``: a mean over the whole picture is convolutions over windows of this side; 0: one pool.
    ``narrows_at_once``: a result that only 8-bit layers read is written in 8 bits; otherwise first in its own.
    ``narrow_inputs``: a model input takes the narrowest precision among its readers; otherwise the widest.
    ``converts_kinds``: float16 layers read integers as float16, int16 ones float16 as int16; otherwise as they are.
    ``completes``: an operator whose result reaches the first number is taken to reach the second.
    ``minimum_range`` is the narrowest range that the toolchain takes.
    ``search`` lists the precisions worth searching. ``source`` says where its facts are from, ``verified`` what of them
    was tried.
    """

    name: str
    title: str
    source: str
    verified: str
    precisions: dict[Precision, Support]
    search: tuple[Precision, ...]
    outputs_share: bool
    inputs_share: bool
    concats_separate: bool
    fixed_ranges: bool
    limits: dict[str, tuple[float, float]]
    completes: dict[str, tuple[float, float]]
    fuses: dict[str, tuple[str, ...]]
    inherits: tuple[str, ...]
    whole_pools: int
    narrows_at_once: bool
    narrow_inputs: bool
    converts_kinds: bool
    minimum_range: float
    latency_aware: bool
    max_kinds: int | None
    slow_8bit: dict[str, str]
    costs: dict[Precision, dict[str, float]]

    @property
    def default(self) -> Precision:
        """The precision step1 gives every layer unless told otherwise."""
        return next(iter(self.precisions))

    def activation(self, precision: Precision) -> Storage:
        """How a tensor is stored at a precision of the target; any tensor may stay float."""
        return self.precisions[precision].activation if precision.is_integer else Storage(precision, None)

    def constant(self, precision: Precision, *, channels: bool) -> Storage:
        """How a layer's constant is stored at a precision; without ``channels`` it goes as activations do."""
        if not precision.is_integer:
            return Storage(precision, None)
        support = self.precisions[precision]
        return support.weight if channels else support.activation

    @property
    def float_precision(self) -> Precision:
        """What becomes of a layer that no integer can serve: float32, or float16 where the target has only that."""
        half = Precision.FLOAT32 not in self.precisions and Precision.FLOAT16 in self.precisions
        return Precision.FLOAT16 if half else Precision.FLOAT32


def names() -> list[str]:
    """Every target's name."""
    return sorted(p.stem for p in FOLDER.glob("*.json"))


@cache
def load(name: str) -> Target:
    """Read a target by name. Raises ConfigError that names the choices."""
    path = FOLDER / f"{name}.json"
    if name not in names():
        raise ConfigError(f"'{name}' is not a target", hint=f"Choose {', '.join(names())}.")
    data = json.loads(path.read_text(encoding="utf-8"))
    return Target(
        name=name,
        title=data["title"],
        source=data["source"],
        verified=data["verified"],
        precisions={Precision(k): _support(v) for k, v in data["precisions"].items()},
        search=tuple(Precision(p) for p in data["search"]),
        outputs_share=data["outputs_share"],
        inputs_share=data.get("inputs_share", True),
        concats_separate=data.get("concats_separate", False),
        fixed_ranges=data.get("fixed_ranges", True),
        limits={op: (low, high) for op, (low, high) in data.get("limits", {}).items()},
        completes={op: (near, end) for op, (near, end) in data.get("completes", {}).items()},
        fuses={op: tuple(readers) for op, readers in data.get("fuses", {}).items()},
        inherits=tuple(data.get("inherits", ())),
        whole_pools=data.get("whole_pools", 0),
        narrows_at_once=data.get("narrows_at_once", True),
        narrow_inputs=data.get("narrow_inputs", False),
        converts_kinds=data.get("converts_kinds", False),
        minimum_range=data.get("minimum_range", 0.0),
        latency_aware=data["latency_aware"],
        max_kinds=data.get("max_kinds"),
        slow_8bit=data.get("slow_8bit", {}),
        costs={Precision(p): factors for p, factors in data.get("costs", {}).get("factors", {}).items()},
    )


def _support(data: dict[str, Any]) -> Support:
    return Support(_storage(data["activation"]), _storage(data["weight"]), data["bias"])


def _storage(data: dict[str, Any]) -> Storage:
    scheme = Scheme(data["scheme"]) if "scheme" in data else None
    return Storage(
        Precision(data["dtype"]),
        scheme,
        data.get("per_channel", False),
        data.get("headroom", 1.0),
        data.get("headroom_alone", False),
    )
