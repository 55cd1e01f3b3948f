"""RKNN-Toolkit 1.x's exported parameters, ``{model}_quant_param.yml``: the lecture's step 4.

``model_name`` and ``quant_params: {tensor: {op, qtype, dtype, scale, zero_point[, fl]}}``; ``:in1`` is a weight,
``:in2`` a bias, ``:out0`` an output; a float tensor has ``qtype: none, dtype: fp16``.
"""

from __future__ import annotations

import re

import numpy as np

from hybridq.config.rknn import TYPES
from hybridq.config.yaml.nodes import Mapping, Node, Scalar, Sequence
from hybridq.config.yaml.reader import read as read_yaml
from hybridq.config.yaml.text import TextPlace, source_of
from hybridq.errors import ConfigError
from hybridq.exchange.mapping import Mapper, parameters
from hybridq.exchange.records import Export, ExportOptions, Wanted, double_text
from hybridq.exchange.rknn1 import in_rknn1
from hybridq.exchange.rknn1_entries import Entry1, entries
from hybridq.exchange.rknn_names import candidates, plain_names
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.plan.quant_plan import Stored
from hybridq.quant.records import Calibrated

TOP = "quant_params"
SLOTS = {":weight": ":in1", ":bias": ":in2"}
_SLOT = re.compile(r":(?:in(\d+)|out\d+)$")


def write(view: View, options: ExportOptions) -> Export:
    """Every tensor, or with ``only_io`` the model's inputs and outputs."""
    view, problems = in_rknn1(view)
    lines = [f"model_name: {_quoted(options.name)}", f"{TOP}:"]
    lines += [line for e in entries(view, options.only_io) for line in _entry(e)]
    return Export({f"{options.name}_quant_param.yml": ("\n".join(lines) + "\n").encode()}, problems)


def _entry(e: Entry1) -> list[str]:
    key = e.key
    for ours, theirs in SLOTS.items():
        key = key.removesuffix(ours) + theirs if key.endswith(ours) else key
    pairs = {"op": e.op, "qtype": "none", "dtype": "fp16"}
    if e.dtype != "None":
        pairs |= {"qtype": e.dtype, "dtype": e.qtype, "scale": double_text(e.scale), "zero_point": str(e.zero_point)}
        pairs |= {"fl": str(e.fl)} if e.fl is not None else {}
    return [f"    {_quoted(key)}:", *(f"        {k}: {v}" for k, v in pairs.items())]


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return f"{TOP}:" in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """Scales and zero points of outputs. Weights are per tensor there and computed from the model here."""
    source = source_of(text, path)
    top = read_yaml(source) if not source.failed else Mapping([], 1, 1, flow=False)
    found = next((p.value for p in top.pairs if p.key.text == TOP), None)
    if not source.failed and not isinstance(found, Mapping):
        source.error("format", f"no `{TOP}`: no parameters that RKNN-Toolkit exported", TextPlace(1, 1, 2))
    if source.failed:
        raise ConfigError(source.sorted())
    mapper = Mapper(path, text, model, calibrated)
    plain = plain_names(mapper.names.known)
    for key, value in found.pairs if isinstance(found, Mapping) else ():
        slot = _SLOT.search(key.text)
        if isinstance(value, Mapping) and not (slot and slot[1]):
            _tensor(mapper, plain, key.text, {p.key.text: p.value for p in value.pairs})
    return mapper.wanted


def _tensor(mapper: Mapper, plain: dict[str, str], text: str, fields: dict[str, Node]) -> None:
    name = next((n for n in candidates(text, plain) if mapper.key(n)), None)
    precision = TYPES.get(_text(fields.get("dtype")))
    if name is None:
        mapper.unknown(text, "tensor", mapper.names.known_keys)
    elif precision is None:
        mapper.problem(text, f"'{_text(fields.get('dtype'))}' is no type")
    elif not precision.is_integer:
        mapper.tensor(name, Stored(mapper.precision(32, is_float=True) or precision))
    else:
        stored = precision if precision in mapper.target.precisions else mapper.precision(precision.bits)
        try:
            zero = np.asarray(int(_text(fields.get("zero_point"))) - precision.qmin)
            p = parameters(stored or precision, float(_text(fields.get("scale"))), zero, symmetric=False)
        except ValueError as error:
            mapper.problem(text, str(error))
            return
        mapper.tensor(name, Stored(p.precision, p))


def _text(node: Node | None) -> str:
    if isinstance(node, Sequence) and len(node.items) == 1:
        node = node.items[0]
    return node.text if isinstance(node, Scalar) else ""
