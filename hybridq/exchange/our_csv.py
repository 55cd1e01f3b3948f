"""Ours, as a table: one row a layer, tensor, weight and bias, for a spreadsheet or a script."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from hybridq.errors import ConfigError, Problem
from hybridq.exchange.mapping import Mapper
from hybridq.exchange.our_json import numbers, stored_of
from hybridq.exchange.records import Export, ExportOptions, Wanted, lost
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.plan.quant_plan import Stored
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated

COLUMNS = (
    *("kind", "name", "layer", "op", "precision", "dtype", "scheme", "axis"),
    *("scale", "zero_point", "min", "max", "group", "aliases"),
)
Row = dict[str, object]


def write(view: View, options: ExportOptions) -> Export:
    """Lists within a cell are separated by blanks."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(_rows(view))
    problems = [lost(f'"{x.name}": weight_only is no column') for x in view.layers if x.weight_only is not None]
    problems += [lost(f'"{k}": edited by hand: only the result is told') for k, f in view.config.edited.items() if f]
    return Export({f"{options.name}.csv": text.getvalue().encode()}, problems)


def _rows(view: View) -> Iterator[Row]:
    for x in view.layers:
        aliases = " ".join(x.aliases)
        yield {
            "kind": "layer",
            "name": x.name,
            "op": x.op,
            "precision": x.precision,
            "group": x.group,
            "aliases": aliases,
        }
    for t in view.tensors:
        place = {"layer": t.layer, "group": t.group, "min": t.range.min, "max": t.range.max}
        yield {"kind": "tensor", "name": t.name, **place, **_cells(t.stored)}
    for w in view.parameters:
        yield {"kind": "weight", "name": w.tensor, "layer": w.layer, **_cells(Stored(w.precision, w.qparams))}
    for b in view.biases:
        scale = "" if b.scale is None else _cell(np.asarray(b.scale).tolist())
        dtype = "float32" if b.scale is None else "int32"
        yield {"kind": "bias", "name": b.tensor, "layer": b.layer, "dtype": dtype, "scale": scale}


def _cells(stored: Stored) -> Row:
    return {k: _cell(v) for k, v in numbers(stored).items()}


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return text.startswith(",".join(COLUMNS[:5]))


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """Precisions of layers, scales and zero points of tensors and weights."""
    table = csv.DictReader(io.StringIO(text))
    mapper = Mapper(path, text, model, calibrated)
    try:
        if not {"kind", "name"} <= set(table.fieldnames or ()):
            raise ConfigError(Problem("no table of ours: its first line needs the columns kind and name", path, 1))
        for row in table:
            _take({k: v or "" for k, v in row.items() if k}, mapper, table.line_num)
    except csv.Error as error:
        raise ConfigError(Problem(f"no table: {error}", path, max(table.line_num, 1))) from error
    return mapper.wanted


def _take(row: dict[str, str], mapper: Mapper, line: int) -> None:
    try:
        _row(row, mapper)
    except (ValueError, KeyError, TypeError) as error:
        said = f"{row.get('name')!r} is not imported: {error!r}"
        mapper.wanted.problems.append(Problem(said, mapper.path, line, severity="warning", code="unmapped"))


def _row(row: dict[str, str], mapper: Mapper) -> None:
    if row["kind"] == "layer":
        precision = Precision(row["precision"])
        if not (
            precision.is_integer and mapper.model.layer.get(row["name"]) and mapper.model.layer[row["name"]].float_only
        ):
            mapper.layer(row["name"], precision)
        return
    if row["kind"] not in ("tensor", "weight"):
        return
    stored = _stored(row)
    if row["kind"] == "tensor":
        mapper.tensor(row["name"], stored)
    elif stored.qparams is not None and (key := mapper.names.weight_keys.get(row["name"])):
        mapper.wanted.weights[key] = stored.qparams


def _stored(row: dict[str, str]) -> Stored:
    axis = int(row["axis"]) if row.get("axis") else None
    scale, zero = np.array(row["scale"].split(), np.float32), np.array(row["zero_point"].split(), np.int64)
    if axis is None and scale.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    return stored_of({"dtype": row["dtype"], "scheme": row["scheme"], "scale": scale, "zero_point": zero, "axis": axis})
