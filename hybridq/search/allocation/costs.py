"""What bits cost: multiply-accumulates, bytes, and time on this machine.

Times come from ONNX Runtime's profiler, one run of the model in 8 bits and one with every unit raised: each node's
time belongs to the layer it was made from. A boundary between 8 bits and more costs a conversion of every element.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hybridq.compare.timing import time_pairs
from hybridq.files.temporary import temporary_folder
from hybridq.graph.model import Model
from hybridq.graph.opset import IR_VERSION, OPSET
from hybridq.graph.runtime import Feed, options, session
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.dtypes import Precision
from hybridq.search.choice import Choice
from hybridq.search.measuring.joint import Bench
from hybridq.search.measuring.quantizers import leaves, readers_of, units_of
from hybridq.storage.state import assemble

RUNS = 15  # profiled runs; the median of a node's times counts
ELEMENTS = 1 << 18  # of the tensor on which a boundary is timed


@dataclass(frozen=True)
class Times:
    """Microseconds by layer in 8 bits and raised, of the 8-bit model and of the given one; see ``boundary_time``."""

    low: Mapping[str, float]
    high: Mapping[str, float]
    boundary: float
    total: float
    given: float
    speedups: dict[str, float] = field(default_factory=dict)  # measured, by choice
    on_board: bool = False  # microseconds of a device, as its profile has them

    def extra(self, layer: str) -> float:
        """What raising one layer adds, as a share of the whole model's time; boundaries apart."""
        return self.added([layer]) / max(self.total, 1e-9)

    def added(self, layers: Iterable[str]) -> float:
        """Microseconds that raising layers adds; boundaries apart."""
        return sum(self.high.get(n, 0.0) - self.low.get(n, 0.0) for n in layers)

    def percent(self, layers: Iterable[str]) -> dict[str, float]:
        """By layer, what its bits cost of the whole model's time, in percent."""
        return {n: round(100 * self.extra(n), 2) for n in layers if n in self.low}

    def milliseconds(self, layers: Iterable[str]) -> dict[str, float]:
        """By layer, what its bits cost on the device, where its profile is known."""
        return {n: round(self.added([n]) / 1e3, 4) for n in layers if n in self.low} if self.on_board else {}


def measure_times(bench: Bench, start: Choice, precision: Precision, threads: int) -> Times:
    """Profile the model in 8 bits and with everything raised."""
    plan, _ = bench.plan(start)
    layers = {n: precision for g in units_of(bench.model, plan) for n in g.layers}
    given = assemble(bench.model.proto, bench.weights)
    protos = bench.build(start), bench.build(start.with_layers(layers)), given
    return times_of(bench.model, layers, *protos, bench.reference.feeds[0], threads)


def times_of(
    model: Model,
    layers: Iterable[str],
    low: onnx.ModelProto,
    high: onnx.ModelProto,
    given: onnx.ModelProto,
    feed: Feed,
    threads: int,
) -> Times:
    """Profile a model with ``layers`` in 8 bits, with all of them raised, and as it was given."""
    found = [profile(proto, model, feed, threads) for proto in (low, high, given)]
    whole = [round(sum(x.values()), 3) for x in (found[0], found[2])]
    by_layer = [{n: round(x.get(n, 0.0), 3) for n in layers} for x in found[:2]]
    return Times(by_layer[0], by_layer[1], boundary_time(threads), whole[0], whole[1])


def profile(proto: onnx.ModelProto, model: Model, feed: Feed, threads: int) -> dict[str, float]:
    """Microseconds of every layer ("" for nodes that belong to none), medians over ``RUNS``."""
    with temporary_folder() as folder:
        chosen = options(threads=threads)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(folder / "profile")
        one = session(proto, session_options=chosen)
        for _ in range(RUNS):
            one.run(None, dict(feed))
        events = json.loads(Path(one.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time")].append(float(event["dur"]))
    owners = {node: x.name for node, x in model.owner_of.items()}
    for layer in model.layers:  # ONNX Runtime names a convolution in its blocked layout after its result
        owners |= {f"{t}_nchwc": layer.name for t in (layer.name, *model.nodes[layer.node].output) if t}
    found: dict[str, float] = defaultdict(float)
    for node, took in times.items():
        found[_owner(node, owners)] += statistics.median(took) * len(took) / RUNS
    return dict(found)


def _owner(node: str, owners: Mapping[str, str]) -> str:
    """The layer that a node of the optimized graph was made from: fused nodes keep a name and add to it."""
    if node in owners:
        return owners[node]
    found = [name for name in owners if node.startswith(name) and not node[len(name) :][:1].isalnum()]
    return owners[max(found, key=len)] if found else ""


def boundary_time(threads: int) -> float:
    """Nanoseconds that quantizing and dequantizing take an element, together half of the two."""
    numbers = [
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        numpy_helper.from_array(np.array(128, np.uint8), "zero_point"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [ELEMENTS]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "boundary", values[:1], values[1:], numbers)
    proto = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    view = Model("", "", proto, (), (), {}, ("x",), ("y",))
    took = profile(proto, view, {"x": np.linspace(-10, 10, ELEMENTS, dtype=np.float32)}, threads)
    return round(1e3 * sum(took.values()) / 2 / ELEMENTS, 4)


def boundary_elements(model: Model, plan: QuantPlan) -> dict[tuple[str, str], int]:
    """Elements that a conversion between a unit and each of its readers touches; "" stands for the outputs."""
    names = {g.name for g in units_of(model, plan)}
    found = {}
    for group in model.groups:
        if group.name not in names:
            continue
        shapes = [model.tensors[t].shape or () for t in group.sources if t in model.tensors]
        size = sum(int(np.prod([d if isinstance(d, int) else 1 for d in s])) for s in shapes)
        for reader in readers_of(model, group):
            found[group.name, reader if reader in names else ""] = size
        if leaves(model, group):
            found[group.name, ""] = size
    return found


def speedup(bench: Bench, choice: Choice, times: Times, threads: int, *, seconds: float = 1.5) -> float:
    """Float time over the choice's time here or in ``bench``'s runtime, the median of alternating runs; once."""
    if choice.key in times.speedups:
        return times.speedups[choice.key]
    feed = bench.reference.feeds[0]
    if bench.stopwatch is not None:
        found = bench.stopwatch(*bench.settled(choice), feed)
    else:
        given = session(assemble(bench.model.proto, bench.weights), threads=threads)
        made = session(bench.build(choice), threads=threads)
        found = time_pairs(given, made, feed, seconds=seconds, threads=threads).speedup
    times.speedups[choice.key] = round(found, 4)
    if bench.save is not None:
        bench.save()
    return times.speedups[choice.key]
