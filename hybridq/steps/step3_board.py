"""`step3 --board`: tensors captured on a device, tied to the layers and the samples of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import onnx

from hybridq.board.compared import Board, compare_board
from hybridq.board.forms import open_dump
from hybridq.board.matching import matched
from hybridq.board.records import Dump
from hybridq.board.sample import chosen_samples
from hybridq.compare import BoardReport, layer_pairs
from hybridq.dataset import Dataset
from hybridq.errors import BoardError
from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, session
from hybridq.plan.plan import make_plan
from hybridq.quant.qparams import QParams
from hybridq.quant.records import QuantConfig
from hybridq.storage import state as storage
from hybridq.storage.state import State

SHOWN = 4  # names


def board_report(
    folder: Path, state: State, config: QuantConfig, hybrid: onnx.ModelProto, data: Dataset, threads: int
) -> BoardReport:
    """What a device computed, against float and against the hybrid model. Raises BoardError."""
    dump = open_dump(folder)
    sources = matched(state.model, dump.names)
    if not sources:
        raise _nothing(dump, state.model)
    stored = _stored(state, config)
    reference = storage.assemble(state.model.proto, state.weights)
    chosen = [number for number, _ in chosen_samples(dump, state.model, _feeds(data), stored)]
    feeds = _sides(chosen, state, (reference, hybrid), data, threads)
    board = Board(dump, sources, [(number, *feeds[number]) for number in chosen], stored)
    return compare_board(board, reference, hybrid, layer_pairs(state.model, hybrid), threads=threads)


def _feeds(data: Dataset) -> Iterator[dict[str, Any]]:
    yield from (sample.feed for sample in data)


def _sides(
    chosen: list[int], state: State, models: tuple[onnx.ModelProto, onnx.ModelProto], data: Dataset, threads: int
) -> dict[int, tuple[Feed, Feed]]:
    """Each chosen sample as float and as the hybrid model take it: a step goes on with the states of each of them."""
    found: dict[int, tuple[Feed, Feed]] = {}
    states = state.model.states
    given, hybrid = (Rolled(session(m, threads=threads), states) for m in models)
    for number, feed in enumerate(islice(_feeds(data), max(chosen) + 1)):
        if number in chosen:
            found[number] = given.whole(feed), hybrid.whole(feed)
        if states:
            given.run(feed, [])
            hybrid.run(feed, [])
    return found


def _stored(state: State, config: QuantConfig) -> dict[str, QParams]:
    """How the plan stores each tensor that is integers."""
    plan = make_plan(state.model, state.calibrated, config, state.weights)
    tensors = ((t, plan.groups[g.name].stored.qparams) for g in state.model.groups for t in g.tensors)
    return {tensor: qparams for tensor, qparams in tensors if qparams is not None}


def _nothing(dump: Dump, model: Model) -> BoardError:
    theirs, ours = list(dump.names), [x.name for x in model.layers]
    hint = f"Looked for {', '.join(ours[:SHOWN])} and so on; the folder has {', '.join(theirs[:SHOWN])}."
    return BoardError(f"none of its {len(theirs)} tensors is one of '{model.name}'", path=str(dump.folder), hint=hint)
