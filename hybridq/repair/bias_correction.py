"""Bias correction: rounded weights shift the mean of what a layer computes; the bias can take that back.

``bias[c] -= mean over samples and positions of (layer(x; quantized weights) - layer(x; weights))[c]`` with x from the
float model (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2,
with measured instead of assumed inputs). One session computes the means of many layers at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.execution.progress import Progress, counted, no_progress
from hybridq.graph import edit
from hybridq.graph.model import Layer, Model
from hybridq.graph.operators import is_unscaled, lookup
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, session
from hybridq.plan.layer_weights import remains
from hybridq.plan.quant_plan import QuantPlan
from hybridq.repair.portions import portions
from hybridq.storage.kept import NOTHING, Kept
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights

Array = NDArray[np.float32]

MEMORY = 1 << 27  # bytes of the weights whose errors are measured by one session


def corrected_biases(
    model: Model,
    plan: QuantPlan,
    weights: Weights,
    feeds: Iterable[Feed],
    *,
    threads: int = 0,
    progress: Progress = no_progress,
    kept: Kept = NOTHING,
) -> dict[str, Array]:
    """The corrected bias of every layer of the plan that has integer weights and a bias of its own, by layer.

    ``feeds`` are single samples; some 30 are enough. Layers whose means come out infinite keep their bias. Samples
    that a command which was killed had looked at are ``kept``.
    """
    samples = list(feeds)
    found: dict[str, Array] = {}
    readers = Counter(x.bias for x in model.layers)
    fitting = (x for x in model.layers if readers[x.bias] == 1 and _fits(x, plan, model))
    for layers in portions(fitting, lambda x: _bytes(x, weights), MEMORY):
        found.update(_corrected(model, plan, weights, layers, samples, threads, progress, kept))
    return found


def _bytes(layer: Layer, weights: Weights) -> int:
    """Of the largest weight of a layer, as large as its error."""
    return max((weights[w.tensor].nbytes for w in layer.weights), default=0)


def _corrected(
    model: Model,
    plan: QuantPlan,
    weights: Weights,
    layers: Sequence[Layer],
    feeds: Sequence[Feed],
    threads: int,
    progress: Progress,
    kept: Kept,
) -> dict[str, Array]:
    proto = assemble(model.proto, weights)
    nodes = {node.name: node for node in proto.graph.node}  # these read and write what lies within float16 ends
    ranks = [len(model.tensors[model.nodes[x.node].output[0]].shape or ()) for x in layers]
    errors = [_error(x, plan, weights) for x in layers]
    names = [
        _measure(proto, nodes[x.node], x, rank, *error) for x, rank, error in zip(layers, ranks, errors, strict=True)
    ]
    key = kept.key("mean shifts", model.sha256, dict(weights) if kept.folder else "", errors, feeds)
    sums = _Sums.recalled(kept, key, [np.shape(weights[x.bias]) for x in layers])
    if model.states and sums.done < len(feeds):  # the state after the last of them is not known
        sums = _Sums(kept, key, [np.zeros_like(t) for t in sums.total])
    left = feeds[sums.done :]
    rolled = Rolled(session(proto, threads=threads), model.states)
    for feed in counted(left, "correcting biases", len(left), progress):
        sums.add(rolled.run(feed, names))
    found = {}
    for layer, held in zip(layers, sums.total, strict=True):
        bias = (np.asarray(weights[layer.bias], np.float64) - held / max(len(feeds), 1)).astype(np.float32)
        if np.isfinite(bias).all():
            found[layer.name] = bias
    return found


@dataclass
class _Sums:
    """Sums over samples, one array a layer, kept as they grow; ``done`` is the number of samples in them."""

    kept: Kept
    key: str
    total: list[NDArray[np.float64]]
    done: int = 0

    @classmethod
    def recalled(cls, kept: Kept, key: str, shapes: Sequence[tuple[int, ...]]) -> _Sums:
        """Those of an earlier command, or none yet."""
        sizes = [math.prod(s) for s in shapes]
        found = kept.get(key, (sum(sizes) + 1,), np.float64)
        if found is None:
            return cls(kept, key, [np.zeros(s) for s in shapes])
        parts = np.split(found[:-1], np.cumsum(sizes)[:-1])
        return cls(kept, key, [p.reshape(s).copy() for p, s in zip(parts, shapes, strict=True)], int(found[-1]))

    def add(self, means: Sequence[NDArray[Any]]) -> None:
        """Take in a sample."""
        for held, mean in zip(self.total, means, strict=True):
            held += mean.reshape(held.shape)
        self.done += 1
        self.kept.put(self.key, np.concatenate([*(t.ravel() for t in self.total), [self.done]]))


def _fits(layer: Layer, plan: QuantPlan, model: Model) -> bool:
    """Whether a layer's bias can be corrected: it has one along the channels of its result, its weights are rounded."""
    if not layer.bias or not any(w.qparams is not None for w in plan.layers[layer.name].weights):
        return False
    node = model.nodes[layer.node]
    bias, result = model.initializers.get(layer.bias), model.tensors.get(node.output[0])
    if bias is None or result is None or result.shape is None or len(result.shape) < 2:
        return False
    return is_unscaled(edit.attributes(node)) and math.prod(bias.dims) == result.shape[_axis(layer, len(result.shape))]


def _axis(layer: Layer, rank: int) -> int:
    """The axis of the result that the bias runs along."""
    return (lookup(layer.op).channel_axis or 0) % rank


def _error(layer: Layer, plan: QuantPlan, weights: Weights) -> tuple[int, Array]:
    """The input that holds a layer's weights, and what rounding changed of them."""
    held = next(w for w in plan.layers[layer.name].weights if w.qparams is not None)
    values = np.asarray(weights[held.tensor])
    return held.index, np.asarray(remains(held, weights) - values, np.float32)


def _measure(proto: onnx.ModelProto, node: NodeProto, layer: Layer, rank: int, place: int, error: Array) -> str:
    """Let the model compute, beside a layer of ``rank`` axes, the channel means of what its weights' errors do."""
    graph = proto.graph
    graph.initializer.append(numpy_helper.from_array(error, f"{layer.name}/error"))
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{layer.name}/shift"
    del copy.input[2:]
    copy.input[place], copy.output[0] = f"{layer.name}/error", f"{layer.name}/shift"
    axes = [i for i in range(rank) if i != _axis(layer, rank)]
    graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), f"{layer.name}/axes"))
    made = f"{layer.name}/mean_shift"
    mean = helper.make_node("ReduceMean", [copy.output[0], f"{layer.name}/axes"], [made], keepdims=0)
    graph.node.extend([copy, mean])
    graph.output.append(helper.make_tensor_value_info(made, TensorProto.FLOAT, None))
    return made
