"""ESP-PPQ's quantization config, as its ``export`` writes it: a config a tensor of each operator, and where that runs.

``configs`` maps an operator (a node) to its tensors, each with bits, policy, state and a ``hash``; ``dominator`` is the
hash of the one whose parameters it shares, of which ``values`` has scale and zero point. ``dispatchings`` names a
platform for each operator: ``ESPDL_INT8``, ``ESPDL_INT16`` or ``FP32``. ESP-DL's scales are powers of two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from hybridq import targets
from hybridq.exchange.losses import weights_stay
from hybridq.exchange.records import Export, ExportOptions, dumped
from hybridq.exchange.restate import restated
from hybridq.exchange.view import LayerView, View
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams

BECOMES = {Precision.UINT8: Precision.INT8, Precision.FLOAT16: Precision.FLOAT32}
PLATFORMS = {Precision.INT8: "ESPDL_INT8", Precision.INT16: "ESPDL_INT16", Precision.FLOAT32: "FP32"}


def write(view: View, options: ExportOptions) -> Export:
    """Every operator of every layer."""
    theirs, problems = restated(view, targets.load("esp-dl"), BECOMES)
    found: dict[str, dict[str, Any]] = {"configs": {}, "dispatchings": {}, "values": {}}
    for layer in theirs.layers:
        for node in view.nodes_of(layer):
            found["dispatchings"][node] = PLATFORMS[layer.precision]
            configs = {name: (key, p) for name, key, p in _tensors(layer, node, theirs) if p is not None}
            if configs:
                found["configs"][node] = {name: _config(*one) for name, one in configs.items()}
                found["values"] |= {str(_hash(key)): _values(p) for key, p in configs.values()}
    return Export({f"{options.name}.esp_ppq.json": dumped(found)}, [*problems, *weights_stay(view)])


def _tensors(layer: LayerView, node: str, view: View) -> Iterator[tuple[str, str, QParams | None]]:
    """Tensors that an operator reads and writes, each with what it shares its parameters by."""
    nodes = view.model.nodes[node]
    weights = {w.tensor: w for w in view.weights_of.get(layer.name, ())}
    for name in dict.fromkeys((*nodes.input, *nodes.output)):
        tensor = view.tensor.get(name) or (view.tensor[layer.name] if name in nodes.output else None)
        if name in weights:
            yield name, name, weights[name].qparams
        elif tensor is not None:
            yield name, tensor.group, tensor.stored.qparams


def _config(key: str, p: QParams) -> dict[str, Any]:
    channel, power = p.axis is not None, p.scheme is Scheme.DYNAMIC_FIXED_POINT
    policy = {
        "PER_TENSOR": not channel,
        "PER_CHANNEL": channel,
        "LINEAR": True,
        "FLOATING": False,
        "SYMMETRICAL": p.scheme.is_symmetric,
        "ASYMMETRICAL": not p.scheme.is_symmetric,
        "POWER_OF_2": power,
        "DYNAMIC": False,
    }
    found = {"bit_width": p.precision.bits, "policy": policy, "state": "ACTIVATED"}
    found |= {"quant_min": p.qmin, "quant_max": p.qmax, "hash": _hash(key), "dominator": _hash(key)}
    return found


def _values(p: QParams) -> dict[str, Any]:
    if p.axis is None:
        return {"scale": float(p.scale), "zero_point": float(p.zero_point)}
    return {"scale": p.scale.reshape(-1).tolist(), "zero_point": p.zero_point.reshape(-1).astype(float).tolist()}


def _hash(key: str) -> int:
    """A number that stands for a group of tensors, the same in every run."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")
