"""A small calibrated state for tests of other toolchains' formats, and a format there and back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from hybridq.config.change import Change, set_layers
from hybridq.config.check import read_cfg
from hybridq.config.write import write_cfg
from hybridq.exchange.formats import FORMATS
from hybridq.exchange.records import Export, ExportOptions, Wanted
from hybridq.exchange.taking import take
from hybridq.exchange.view import View, make_view
from hybridq.plan.plan import make_plan
from hybridq.plan.record import Request, record
from hybridq.quant.dtypes import Precision
from hybridq.storage.state import State
from hybridq.storage.weights import Weights
from hybridq.targets import load
from tests.helpers_config import PATH, small


@cache
def state(target: str = "rknn1", default: str = "") -> State:
    """The small model with random weights, calibrated for ``target``."""
    model, calibrated = small()
    random = np.random.default_rng(7)
    shapes = {w.tensor: w.shape for x in model.layers for w in x.weights}
    weights = Weights({n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()} | _shape())
    goal = load(target)
    precision = Precision(default) if default else goal.default
    found = record(model, weights, calibrated.measured, Request(goal, precision, "normal"))
    return State(model, weights, found, {}, 1)


def _shape() -> dict[str, np.ndarray]:
    return {"shape": np.array([1, -1], np.int64)}


def plain_cfg(s: State) -> str:
    """The cfg as step1 writes it."""
    return write_cfg(s.model, s.calibrated)


def edited_cfg(s: State, choices: Mapping[str, str], params: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The cfg after ``set`` for each choice and each tensor's fields."""
    text = plain_cfg(s)
    for name, precision in choices.items():
        text = set_layers(text, PATH, s.model, s.calibrated, name, precision).text
    for name, fields in (params or {}).items():
        text = set_layers(text, PATH, s.model, s.calibrated, name, None, fields).text
    return text


def view(s: State, text: str = "") -> View:
    """The view of what a cfg asks."""
    config = read_cfg(text or plain_cfg(s), PATH, s.model, s.calibrated)
    return make_view(s, make_plan(s.model, s.calibrated, config, s.weights), config)


def export(name: str, s: State, text: str = "", *, only_io: bool = False) -> Export:
    """One format, written."""
    return FORMATS[name].write(view(s, text), ExportOptions("small", only_io=only_io))


def content(found: Export) -> str:
    """The text of an export of one file, or of its cfg."""
    names = [n for n in found.files if n.endswith(".cfg")] or list(found.files)
    data = found.files[names[0]]
    assert isinstance(data, bytes)
    return data.decode()


def imported(name: str, text: str, s: State, cfg: str = "") -> tuple[Change, Wanted]:
    """A file of that format taken into a cfg, by default the one that step1 wrote."""
    reader = FORMATS[name].read
    assert reader is not None
    wanted = reader(text, "theirs", s.model, s.calibrated)
    return take(wanted, s, cfg or plain_cfg(s), PATH, "theirs"), wanted
