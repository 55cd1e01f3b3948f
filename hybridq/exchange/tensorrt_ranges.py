"""TensorRT's dynamic ranges as JSON: ``{"act_quant_info": {tensor: amax}}``, what a script sets tensor by tensor."""

from __future__ import annotations

from hybridq.exchange.mapping import Mapper, load_json
from hybridq.exchange.records import Export, ExportOptions, Wanted, dumped
from hybridq.exchange.tensorrt import amaxes, losses, take_amax
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.quant.records import Calibrated

TOP = "act_quant_info"


def write(view: View, options: ExportOptions) -> Export:
    """One number a tensor that is stored in 8 bits."""
    return Export({f"{options.name}.ranges.json": dumped({TOP: amaxes(view)})}, losses(view))


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return f'"{TOP}"' in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """The largest magnitude of every tensor."""
    mapper = Mapper(path, text, model, calibrated)
    found = load_json(text, path).get(TOP)
    for name, amax in found.items() if isinstance(found, dict) else ():
        if isinstance(amax, float | int) and not isinstance(amax, bool):
            take_amax(mapper, name, float(amax))
        else:
            mapper.problem(name, f"{amax!r} is no number")
    return mapper.wanted
