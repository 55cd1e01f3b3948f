"""How RKNN's toolkits call a tensor, and what that may be called here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hybridq.exchange.rknn2_convert import Plan
from hybridq.graph.model import Model
from hybridq.graph.operators import Layout, lookup, row_of
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated

ID = re.compile(r"_\d+$")
MARK = re.compile(r"_acuity_mark_perm(_\d+)?$")  # a Transpose that Toolkit 1.x put beside the layer
ATTACHED = re.compile(r"attach_(.+)/out\d+")  # how Toolkit 1.x calls a model output
SUFFIX = re.compile(r":(weight|bias|in\d+|out(\d+))$")
ASIDE = re.compile(r"(_2mul_i\d+|__?(int8|int16|float16))$")  # Toolkit2: constants and conversions


def candidates(text: str, plain: Mapping[str, str]) -> list[str]:
    """What ``@{layer}_{id}:{slot}`` may be called here, the likeliest first.

    After the ONNX node or its output, at times with the operator's name or ``attach_`` before it. ``plain`` has our
    names by themselves without special characters (``plain_names``).
    """
    base = MARK.sub("", SUFFIX.sub("", text.removeprefix("@")))
    found = [ID.sub("", base), base]
    found += [m[1] for x in found if (m := ATTACHED.fullmatch(x))]
    found += [x.partition("_")[2] for x in found if x.partition("_")[2].startswith(x.partition("_")[0])]
    found += [plain[p] for x in found if (p := _plain(x)) in plain]
    return list(dict.fromkeys(found))


def plain_names(names: list[str]) -> dict[str, str]:
    """Names by themselves without special characters, where that leaves them apart."""
    found: dict[str, str] = {}
    clash: set[str] = set()
    for name in names:
        plain = _plain(name)
        if found.setdefault(plain, name) != name:
            clash.add(plain)
    return {k: v for k, v in found.items() if k not in clash}


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def toolkit_names(model: Model, calibrated: Calibrated) -> Plan:
    """What tells the names that Toolkit2 derives (``Plan.owner``); no type and no range is chosen."""
    observed = {t: _ends(calibrated.measured[g.name].range) for t, g in model.group_of.items()}
    before = {model.nodes[x.node].output[0]: observed[x.name] for x in model.layers if x.activation}
    nodes = {n.name: n.output[0] for n in model.proto.graph.node if n.output[0] in observed}
    nodes |= {x.node: x.name for x in model.layers} | {a: x.name for x in model.layers for a in x.aliases}
    return Plan(
        types={},
        ranges={**before, **observed},
        observed=observed,
        readers={t: read for t in observed if (read := [x.name for x in model.layers if t in x.inputs])},
        nodes=nodes,
        joins=_joins(model),
        constants=[i.name for i in model.proto.graph.initializer],
        inputs=list(model.inputs),
        outputs=list(model.outputs),
    )


def _ends(r: Range) -> list[float]:
    return [r.min, r.max]


def _joins(model: Model) -> dict[str, str]:
    """What a Concat joins, to the only Conv that reads the result: Toolkit2 may make one Conv of each."""
    found = {}
    for node in model.proto.graph.node:
        if row_of(node).moves_all:
            readers = [x for x in model.layers if node.output[0] in x.inputs and lookup(x.op).layout is Layout.CONV]
            found.update({i: readers[0].name for i in node.input if len(readers) == 1})
    return found
