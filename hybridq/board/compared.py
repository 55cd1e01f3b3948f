"""The device's own tensors against float and against our simulation: whether the board computes what was planned.

Layers are walked in the order of the graph. A layer is computed as planned where the device is about as near to float
as the simulation is, or all but equal to the simulation: two ways of rounding the same numbers differ by as much noise
as the rounding itself makes. The first layer that is not is where to look, and ``causes`` says for what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.board.arranged import Arranger
from hybridq.board.causes import cause_of
from hybridq.board.records import Dump
from hybridq.board.values import load
from hybridq.compare import probes
from hybridq.compare.results import BoardLayer, BoardReport, LayerPair, TensorFigures
from hybridq.errors import BoardError, Problem
from hybridq.graph import runtime
from hybridq.graph.runtime import Feed, Session
from hybridq.quant.metrics import Damage
from hybridq.quant.qparams import QParams

EQUAL_DB = 40.0  # against the simulation: such a layer is computed as planned, whatever float says
SLACK_DB = 3.0  # farther from float than the simulation is: two independent roundings
RUN = 16  # layers whose tensors are held at once
TOLD = 8  # problems

Values = NDArray[np.float32]


@dataclass
class _Row:
    """What was measured of one layer."""

    pair: LayerPair
    source: str
    device: Damage = field(default_factory=Damage)
    plan: Damage = field(default_factory=Damage)
    entire: Damage = field(default_factory=Damage)
    notes: dict[str, None] = field(default_factory=dict)
    cause: str = ""

    @property
    def as_planned(self) -> bool:
        if self.device.nonfinite > self.entire.nonfinite:
            return False
        nearly = self.plan.sqnr_db >= EQUAL_DB
        return nearly or self.device.sqnr_db >= self.entire.sqnr_db - SLACK_DB


@dataclass(frozen=True)
class Board:
    """A dump tied to a model: ``sources`` are its names by layer, ``feeds`` our samples that it ran on.

    A feed is its number, what float takes, and what the hybrid model takes: the states of a recurrent model differ.
    ``stored`` says how the plan stores each layer's tensor, where it is integers; ``missing`` layers have no tensor.
    """

    dump: Dump
    sources: Mapping[str, str]
    feeds: Sequence[tuple[int, Feed, Feed]]
    stored: Mapping[str, QParams]


def compare_board(
    board: Board, reference: onnx.ModelProto, hybrid: onnx.ModelProto, pairs: Sequence[LayerPair], *, threads: int = 0
) -> BoardReport:
    """Measure every captured layer. Raises BoardError, all problems at once, where files are damaged or do not fit."""
    chosen = [pair for pair in pairs if pair.name in board.sources]
    sessions = (
        runtime.session(probes.expose(reference, [p.float_tensor for p in chosen]), threads=threads),
        runtime.session(probes.expose(hybrid, [p.hybrid_tensor for p in chosen]), threads=threads),
    )
    rows = {pair.name: _Row(pair, board.sources[pair.name]) for pair in chosen}
    arranger, problems = Arranger(), list[Problem]()
    for sample, (_, *feeds) in enumerate(board.feeds):
        for chunk in _chunks(chosen):
            for pair, float_values, planned in _ours(chunk, sessions, feeds):
                _measure(board, sample, rows[pair.name], (float_values, planned), arranger, problems)
    if problems:
        left = len(problems) - TOLD
        more = [Problem(f"and {left} more files like these", str(board.dump.folder))] if left > 0 else []
        raise BoardError([*problems[:TOLD], *more])
    return _report(board, pairs, list(rows.values()))


def _chunks(pairs: Sequence[LayerPair]) -> Iterator[Sequence[LayerPair]]:
    yield from (pairs[i : i + RUN] for i in range(0, len(pairs), RUN))


def _ours(
    pairs: Sequence[LayerPair], sessions: tuple[Session, Session], feeds: Sequence[Feed]
) -> Iterator[tuple[LayerPair, NDArray[Any], NDArray[Any]]]:
    a = runtime.run(sessions[0], feeds[0], [p.float_tensor for p in pairs])
    b = runtime.run(sessions[1], feeds[1], [p.hybrid_tensor for p in pairs])
    yield from zip(pairs, a, b, strict=True)


def _measure(
    board: Board, sample: int, row: _Row, ours: tuple[Values, Values], arranger: Arranger, problems: list[Problem]
) -> None:
    """One layer of one sample; what is wrong with its file is added to ``problems``."""
    captured = board.dump.samples[sample].get(row.source)
    float_values, planned = ours
    if captured is None or float_values.dtype.kind != "f":
        return
    try:
        values = load(captured, float_values.size, board.stored.get(row.pair.name))
    except BoardError as error:
        problems += error.problems
        return
    device, note = arranger.arrange(captured, values, float_values)
    row.notes |= dict.fromkeys([note] if note else [])
    row.device.add(float_values, device)
    row.plan.add(planned, device)
    row.entire.add(float_values, planned)
    if not row.as_planned and not row.cause:
        row.cause = cause_of(row.pair.op, row.pair.precision, planned, device)


def _report(board: Board, pairs: Sequence[LayerPair], rows: Sequence[_Row]) -> BoardReport:
    layers = tuple(_layer(row, board.dump) for row in rows if row.device.samples)
    held = {layer.name for layer in layers}
    last, first = _parting(layers)
    cause = next((row.cause for row in rows if row.pair.name == first), "")
    return BoardReport(
        form=board.dump.title,
        device=board.dump.device,
        samples=tuple(number for number, *_ in board.feeds),
        layers=layers,
        missing=tuple(p.name for p in pairs if p.name not in held),
        last_as_planned=last,
        first_apart=first,
        cause=cause,
    )


def _layer(row: _Row, dump: Dump) -> BoardLayer:
    stated = dump.stated.get(row.source)
    return BoardLayer(
        name=row.pair.name,
        op=row.pair.op,
        precision=row.pair.precision,
        source=row.source,
        against_float=TensorFigures.of(row.device),
        against_plan=TensorFigures.of(row.plan),
        planned=TensorFigures.of(row.entire),
        as_planned=row.as_planned,
        stated_cosine=(stated.device if dump.device else stated.simulator) if stated else None,
        note="; ".join(row.notes),
    )


def _parting(layers: Sequence[BoardLayer]) -> tuple[str, str]:
    """The last layer as planned before the first that is not, and that one; empty where there is none."""
    last = ""
    for layer in layers:
        if not layer.as_planned:
            return last, layer.name
        last = layer.name
    return last, ""
