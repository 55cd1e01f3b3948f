"""`step3 --board`: tensors captured on a device, tied to the layers and the samples of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from hybridq.board.forms import open_dump
from hybridq.board.matching import matched
from hybridq.board.records import Dump
from hybridq.board.sample import chosen_samples
from hybridq.compare import BoardReport, layer_pairs
from hybridq.compare.board import Board, compare_board
from hybridq.dataset import Dataset
from hybridq.errors import BoardError
from hybridq.graph.model import Model
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
    feeds = chosen_samples(dump, state.model, _feeds(data), stored)
    board = Board(dump, sources, feeds, stored)
    reference = storage.assemble(state.model.proto, state.weights)
    return compare_board(board, reference, hybrid, layer_pairs(state.model, hybrid), threads=threads)


def _feeds(data: Dataset) -> Iterator[dict[str, Any]]:
    yield from (sample.feed for sample in data)


def _stored(state: State, config: QuantConfig) -> dict[str, QParams]:
    """How the plan stores each tensor that is integers."""
    plan = make_plan(state.model, state.calibrated, config, state.weights)
    tensors = ((t, plan.groups[g.name].stored.qparams) for g in state.model.groups for t in g.tensors)
    return {tensor: qparams for tensor, qparams in tensors if qparams is not None}


def _nothing(dump: Dump, model: Model) -> BoardError:
    theirs, ours = list(dump.names), [x.name for x in model.layers]
    hint = f"Looked for {', '.join(ours[:SHOWN])} and so on; the folder has {', '.join(theirs[:SHOWN])}."
    return BoardError(f"none of its {len(theirs)} tensors is one of '{model.name}'", path=str(dump.folder), hint=hint)
