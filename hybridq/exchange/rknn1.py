"""RKNN-Toolkit 1.7's ``.quantization.cfg``. Its keys are ``@{layer}_{id}:{weight|bias|outN}``.

Only the toolkit knows the ids; ours count in the order of the graph, and our reader asks for the names alone.
"""

from __future__ import annotations

from hybridq import targets
from hybridq.config.rknn import LAYER_WORDS
from hybridq.errors import Problem
from hybridq.exchange.losses import weights_stay
from hybridq.exchange.records import Export, ExportOptions, double_text, lost
from hybridq.exchange.restate import restated
from hybridq.exchange.rknn1_entries import Entry1, entries, key_of
from hybridq.exchange.view import View
from hybridq.quant.dtypes import Precision

BECOMES = {Precision.FLOAT16: Precision.FLOAT32}
HEAD = """%YAML 1.2
---
# add layer name and corresponding quantized_dtype to customized_quantize_layers, e.g conv2_3: float32
"""


def write(view: View, options: ExportOptions) -> Export:
    """Both parts of the cfg; entries of float tensors say ``dtype: None``."""
    view, problems = in_rknn1(view)
    default = view.calibrated.default if view.target == "rknn1" else Precision.UINT8
    raised = {x.name: x.precision for x in view.layers if x.precision is not default}
    kinds = {default, *(p for n, p in raised.items() if not view.model.layer[n].float_only)}
    if len(kinds) > 2:
        problems.append(lost(f"RKNN-Toolkit 1.x takes two kinds of layers in one model; here are {len(kinds)}"))
    lines = [f"    {_quoted(key_of(n, view))}: {LAYER_WORDS[p]}" for n, p in raised.items()]
    text = HEAD + ("customized_quantize_layers:\n" if lines else "customized_quantize_layers: {}\n")
    text += "".join(f"{line}\n" for line in lines) + "quantize_parameters:\n"
    text += "".join(_entry(e) for e in entries(view))
    return Export({f"{options.name}.quantization.cfg": text.encode()}, problems)


def in_rknn1(view: View) -> tuple[View, list[Problem]]:
    """The result as RKNN-Toolkit 1.x stores it; what differs, line by line."""
    becomes = dict(BECOMES)
    if view.target != "rknn1":
        becomes[Precision.INT8] = Precision.UINT8
    found, problems = restated(view, targets.load("rknn1"), becomes)
    return found, [*problems, *weights_stay(view)]


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _entry(e: Entry1) -> str:
    pairs: dict[str, str] = {"dtype": e.dtype}
    if e.dtype != "None":
        pairs |= {
            "method": "layer",
            "max_value": "" if e.max is None else f"[{double_text(e.max)}]",
            "min_value": "" if e.min is None else f"[{double_text(e.min)}]",
            "zero_point": str(e.zero_point) if e.qtype == "i32" else f"[{e.zero_point}]",
            "scale": f"[{double_text(e.scale)}]",
            "qtype": e.qtype,
        }
        pairs |= {"fl": str(e.fl)} if e.fl is not None else {}
    body = "".join(f"        {k}: {v}".rstrip() + "\n" for k, v in pairs.items())
    return f"    {_quoted(e.key)}:\n{body}"


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return "customized_quantize_layers" in text and ("'@" in text or '"@' in text or "max_value" in text)
