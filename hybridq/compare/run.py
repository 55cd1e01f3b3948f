"""``compare``: every sample through both models, then the first ones layer by layer; every figure is a sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import onnx
import onnxruntime

import hybridq
from hybridq.build.metadata import read_metadata
from hybridq.compare import probes
from hybridq.compare.drift import drift_warning, scale_warnings
from hybridq.compare.layers import LayerSums
from hybridq.compare.metric import Metric
from hybridq.compare.outputs import OutputSums, Watch, concatenated
from hybridq.compare.results import ComparisonReport, LayerPair, Sizes, Timing
from hybridq.compare.shards import (
    Inside,
    Models,
    Ran,
    Source,
    let_go,
    measure_layers,
    proto_of,
    run_both,
    sessions_of,
    shards,
)
from hybridq.compare.timing import time_pairs
from hybridq.errors import DatasetError, ModelError
from hybridq.execution.pool import HERE, Pool
from hybridq.execution.shared import Here
from hybridq.graph.chance import random_nodes, seeded
from hybridq.graph.model import Layer, Model
from hybridq.graph.outside import is_outside, place_of, size_of
from hybridq.graph.runtime import Feed
from hybridq.graph.states import States

Runner = Callable[[Models], Iterable[Ran]]


@dataclass(frozen=True)
class Outside:
    """What is measured of the models as a whole, beside their outputs.

    ``metric`` is the user's figure over all outputs of one model, higher is better; only then are outputs kept.
    ``seconds`` are spent on timing the untouched models on the first sample; 0: no timing. ``watch`` is called with
    every sample's feed, float's outputs and the hybrid model's.
    """

    metric: Metric | None = None
    seconds: float = 0.0
    watch: Watch | None = None


@dataclass(frozen=True)
class Runs:
    """How models run: ``threads`` each (0: all cores); ``pool`` measures layers.

    ``runner`` runs both models over the samples in the place of the feeds that are given.
    """

    threads: int = 0
    runner: Runner | None = None
    pool: Pool | None = None


OUTPUTS_ONLY, NOTHING_ELSE, HERE_AND_NOW = Inside(), Outside(), Runs()


def layer_pairs(model: Model, hybrid: onnx.ModelProto) -> tuple[LayerPair, ...]:
    """Where each layer of ``model`` is in the ``hybrid`` that was built of it: there its value has the same name.

    Raises ModelError where ``hybrid`` does not say what became of the layers.
    """
    metadata = read_metadata(hybrid)
    if metadata is None or not set(metadata.precisions) >= set(model.layer):
        raise ModelError("the model's metadata does not say what became of its layers", hint="Run step2 again.")
    return tuple(
        LayerPair(layer.name, layer.op, metadata.precisions[layer.name], layer.name, layer.name, _reads(model, layer))
        for layer in model.layers
    )


def _reads(model: Model, layer: Layer) -> tuple[str, ...]:
    """What a layer reads that is no constant: activations, and parameters that the graph computes."""
    return tuple(i for i in dict.fromkeys(model.nodes[layer.node].input) if i and i not in model.initializers)


def compare(
    float_model: Source,
    hybrid_model: Source,
    feeds: Iterable[Feed],
    *,
    inside: Inside = OUTPUTS_ONLY,
    outside: Outside = NOTHING_ELSE,
    states: States | None = None,
    runs: Runs = HERE_AND_NOW,
) -> ComparisonReport:
    """Run both models on every sample and measure what differs; ``feeds`` is read once.

    ``states`` of a recurrent model go round in each of the two on its own. The report is the same however and wherever
    the models run.

    Raises ModelError when a model cannot run or the outputs' names differ, DatasetError, HybridqError of the metric.
    """
    protos = proto_of(float_model), proto_of(hybrid_model)
    _check_outputs(*protos)
    sizes = Sizes.of(_bytes(float_model, protos[0]), _bytes(hybrid_model, protos[1]))
    models, drawing = _drawing_alike(Models(*protos, states or {}, inside))
    outputs = OutputSums(concatenated(protos[0]), outside.metric is not None, models.states, outside.watch)
    if drawing:  # numbers that are drawn hang on the runs before, all of one process
        outside, runs = replace(outside, seconds=0.0), Runs(runs.threads)
    ran = runs.runner(models) if runs.runner is not None else run_both(models, feeds, runs.threads)
    held = list(_outputs(ran, outputs, inside.samples))
    timing = _timed(models, held[0][0], outside.seconds, runs.threads)
    layers = _layers(models, held[: inside.samples], runs)
    let_go()
    report = _report(protos[0].graph.name, outputs, layers, outside.metric, sizes)
    chance = [f"random numbers are drawn inside, by '{n}': both models drew the same ones" for n in drawing[:1]]
    scales = scale_warnings(layers.drift, (i.name for i in protos[0].graph.input))
    return replace(report, timing=timing, warnings=(*chance, *report.warnings, *scales))


def _drawing_alike(models: Models) -> tuple[Models, list[str]]:
    """The models, with seeds where they draw random numbers, so that both draw the same; and which nodes do."""
    drawing = random_nodes(models.reference.graph)
    return replace(models, reference=seeded(models.reference), hybrid=seeded(models.hybrid)), drawing


def _timed(models: Models, feed: Feed, seconds: float, threads: int) -> Timing | None:
    if seconds <= 0:
        return None
    return time_pairs(*sessions_of(models, threads), feed, seconds=seconds, threads=threads)


def _outputs(ran: Iterable[Ran], sums: OutputSums, most: int | None) -> Iterator[tuple[Feed, Feed]]:
    """Add up every sample; gives what the first ones were fed, that the models' insides are measured with.

    Raises DatasetError without any sample.
    """
    for one in ran:
        sums.add(one.fed[0], one.begins, *one.outputs)
        if sums.samples == 1 or most is None or sums.samples <= most:
            yield one.fed
    if not sums.samples:
        raise DatasetError("there is no sample to compare on")


def _layers(models: Models, fed: Sequence[tuple[Feed, Feed]], runs: Runs) -> LayerSums:
    """The insides of both models on some samples; the first shard chooses the ends of histograms for all."""
    found = LayerSums.of(models.inside.layers, models.inside.ranges)
    first, *rest = list(shards(fed)) if models.inside and fed else [()]
    if first:
        found.merge(measure_layers(Here(models), first, None, runs.threads))
    ends = found.spread.ends.copy()
    place = runs.pool or HERE
    shared = place.share(replace(models, inside=replace(models.inside, keep=None))) if rest else None
    for part in place.over(measure_layers, ((shared, shard, ends, place.threads or runs.threads) for shard in rest)):
        found.merge(part)
    return found


def _report(name: str, outputs: OutputSums, layers: LayerSums, metric: Metric | None, sizes: Sizes) -> ComparisonReport:
    drift = layers.drift.found()
    drifted = drift_warning(drift, len(layers.drift.seen))
    return ComparisonReport(
        model=name,
        samples=outputs.samples,
        layer_samples=layers.samples,
        calibration_data=False,
        outputs=outputs.reports(),
        layers=layers.reports() if layers.samples else (),
        sizes=sizes,
        timing=None,
        metric=outputs.metric(metric) if metric is not None else None,
        drift=drift,
        warnings=(*outputs.warnings(), *([drifted] if drifted else [])),
        versions={"hybridq": hybridq.__version__, "onnxruntime": onnxruntime.__version__},
        loop=outputs.loop.found(),
    )


def _check_outputs(reference: onnx.ModelProto, hybrid: onnx.ModelProto) -> None:
    one, other = (probes.GraphIndex(proto).outputs for proto in (reference, hybrid))
    if one != other:
        raise ModelError(f"the models' outputs differ: {', '.join(one)} and {', '.join(other)}")


def _bytes(source: Source, proto: onnx.ModelProto) -> int:
    """Size of the file with those beside it, or of what would be written."""
    lying = [t for t in proto.graph.initializer if is_outside(t)]
    if isinstance(source, onnx.ModelProto):
        return source.ByteSize() + sum(map(size_of, lying))
    return sum(path.stat().st_size for path in {source.resolve(), *(place_of(t).path for t in lying)})
