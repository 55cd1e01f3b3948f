"""Time on a board: the user's own profile of each layer, and what more bits cost there by the target's data.

Profiles are read as the tools write them: the ``Network Layer Information Table`` that ``rknn.eval_perf()`` prints
(RKNN-Toolkit2, columns ``Time(us)`` and ``FullName``, which ends in the node's name), and the JSON of
``trtexec --exportProfile`` (a list of ``name`` and ``averageMs``; a fused layer names its nodes with `` + `` between).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hybridq.errors import ConfigError
from hybridq.files.reading import read_text
from hybridq.graph.model import Model
from hybridq.graph.operators import Kind, lookup
from hybridq.quant.dtypes import Precision
from hybridq.search.costs import Times
from hybridq.targets import Target

TABLE = "Network Layer Information Table"
PRODUCTS, OTHERS = "products", "others"  # kinds of operators in a target's costs


def board_times(model: Model, target: Target, precision: Precision, measured: Mapping[str, float]) -> Times | None:
    """Microseconds by layer as measured, and raised by the target's factors; None where the target has none.

    Without a profile the unit is one share of the MACs, so that shares of time can be told and milliseconds cannot.
    """
    factors = target.costs.get(precision)
    if factors is None:
        return None
    low = dict(measured) or {x.name: 1e6 * x.macs / max(1, model.macs) for x in model.layers}
    high = {n: us * factors[_kind(model, n)] for n, us in low.items()}
    return Times(low, high, 0.0, sum(low.values()), 0.0, on_board=bool(measured))


def _kind(model: Model, layer: str) -> str:
    return PRODUCTS if lookup(model.layer[layer].op).kind is Kind.COMPUTE else OTHERS


def read_profile(path: Path, model: Model) -> dict[str, float]:
    """Microseconds by layer from a profile's file. Raises ConfigError for what is none, or of another model."""
    text = read_text(path, ConfigError)
    rows = list(_rknn(text) if TABLE in text else _tensorrt(text, path))
    names = _names(model)
    found: dict[str, float] = {}
    for nodes, us in rows:
        layers = list(dict.fromkeys(names[n] for n in nodes if n in names))
        for name in layers:
            found[name] = found.get(name, 0.0) + us / len(layers)
    if not found:
        told = f"its {len(rows)} rows name no layer of this model" if rows else "no row of a profile in it"
        hint = "Give the text that rknn.eval_perf() prints, or the JSON of trtexec --exportProfile."
        raise ConfigError(told, path=str(path), hint=hint)
    return found


def _names(model: Model) -> dict[str, str]:
    """Layers by every name that a profile may call them."""
    nodes = {x.node: x.name for x in model.layers} | {x.activation: x.name for x in model.layers if x.activation}
    return {**nodes, **model.names}


def _rknn(text: str) -> Iterator[tuple[list[str], float]]:
    """Node names and microseconds of every row; a row without a full name belongs to no layer."""
    header = re.search(r"^.*\bID\s+OpType\b.*\bTime\(us\).*$", text, re.MULTILINE)
    if header is None:
        return
    line = header.group()
    at = {word: line.index(word) for word in ("Time(us)", "FullName") if word in line}
    for row in text[header.end() :].splitlines():
        took = re.match(r"\d+", row[at["Time(us)"] :].strip()) if len(row) > at["Time(us)"] else None
        name = row.split()[-1] if row.split() else ""
        if took and row.strip()[:1].isdigit() and ":" in name:
            yield [name.split(":", 1)[1]], float(took.group())


def _tensorrt(text: str, path: Path) -> Iterator[tuple[list[str], float]]:
    """Node names and microseconds of every layer of an engine."""
    try:
        held: Any = json.loads(text)
    except ValueError as error:
        raise ConfigError("neither RKNN's table nor JSON", path=str(path), hint=str(error)) from error
    for row in held if isinstance(held, list) else ():
        if (
            isinstance(row, dict)
            and isinstance(row.get("name"), str)
            and isinstance(row.get("averageMs"), (int, float))
        ):
            yield [n.strip() for n in row["name"].split(" + ")], 1e3 * float(row["averageMs"])
