"""Time on a board: the user's own profile of each layer, and what more bits cost there by the target's data.

Profiles are read as the tools write them: the ``Network Layer Information Table`` that ``rknn.eval_perf()`` prints
(RKNN-Toolkit2, columns ``Time(us)`` and ``FullName``, which ends in the node's name), the JSON of
``trtexec --exportProfile`` (a list of ``name`` and ``averageMs``; a fused layer names its nodes with `` + `` between),
and what ``snpe-diagview`` prints of a run with ``snpe-net-run --profiling_level detailed``: rows such as
``5: dense/MatMul:OpId_40 (cycles) : 1447 cycles : DSP`` below "Per-Layer Execution Times" (as SNPE 2.37 writes it), or
its CSV (``--csv_format_version 2``: the columns ``Layer Name``, ``Time``, ``Unit of Measurement``, a row a layer and
run). A DSP counts cycles; they are told in the microseconds of its "Accelerator Time", as the shares they are.
"""

from __future__ import annotations

import csv
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
from hybridq.search.allocation.costs import Times
from hybridq.targets import Target

TABLE = "Network Layer Information Table"
SNPE_TEXT, SNPE_CSV = "Per-Layer Execution Times", "Unit of Measurement"
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}
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
    rows = list(_rows(text, path))
    names = _names(model)
    found: dict[str, float] = {}
    for nodes, us in rows:
        layers = list(dict.fromkeys(names[_plain(n)] for n in nodes if _plain(n) in names))
        for name in layers:
            found[name] = found.get(name, 0.0) + us / len(layers)
    if not found:
        told = f"its {len(rows)} rows name no layer of this model" if rows else "no row of a profile in it"
        hint = "Give what rknn.eval_perf() or snpe-diagview prints, or the JSON of trtexec --exportProfile."
        raise ConfigError(told, path=str(path), hint=hint)
    return found


def _rows(text: str, path: Path) -> Iterator[tuple[list[str], float]]:
    """Node names and microseconds of every row, whoever wrote it."""
    if TABLE in text:
        return _rknn(text)
    if SNPE_TEXT in text:
        return _snpe(text)
    return _snpe_csv(text) if SNPE_CSV in text.partition("\n")[0] else _tensorrt(text, path)


def _names(model: Model) -> dict[str, str]:
    """Layers by every name that a profile may call them."""
    nodes = {x.node: x.name for x in model.layers} | {x.activation: x.name for x in model.layers if x.activation}
    return {_plain(k): v for k, v in {**nodes, **model.names}.items()}


def _plain(name: str) -> str:
    """A name as converters leave it: what is neither letter nor digit may have become something else."""
    return re.sub(r"\W", "_", name).strip("_")


def _snpe(text: str) -> Iterator[tuple[list[str], float]]:
    """Node names and microseconds of every row of the text; rows without a name belong to no layer."""
    found = re.findall(
        r"^\s*\d+: (.+?)(?::OpId_\d+)?(?: \(cycles\))? : (\d+) (us|cycles) : \w+\s*$", text, re.MULTILINE
    )
    cycles = sum(int(count) for _, count, unit in found if unit == "cycles")
    told = re.search(r"^\s*Accelerator Time: (\d+) us", text, re.MULTILINE)
    clock = float(told.group(1)) / cycles if told and cycles else 1.0
    for name, count, unit in found:
        yield [name], float(count) * (clock if unit == "cycles" else 1.0)


def _snpe_csv(text: str) -> Iterator[tuple[list[str], float]]:
    """Node names and microseconds of every layer of the CSV, the mean of its runs; a cycle counts as a microsecond."""
    runs: dict[str, list[float]] = {}
    for row in csv.DictReader(text.splitlines()):
        name, took = row.get("Layer Name") or "", row.get("Time") or ""
        if name and re.fullmatch(r"\d+(\.\d+)?", took.strip()):
            unit = (row.get(SNPE_CSV) or "").strip().lower()
            runs.setdefault(re.sub(r":OpId_\d+.*$", "", name), []).append(float(took) * MICROSECONDS.get(unit, 1.0))
    for name, times in runs.items():
        yield [name], sum(times) / len(times)


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
