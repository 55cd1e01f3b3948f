"""``compare``: one pass over the samples, every figure accumulated as it goes, no list of tensors kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import onnxruntime

import hybridq
from hybridq.build.metadata import read_metadata
from hybridq.compare import probes
from hybridq.compare.drift import DriftWatch, drift_warning, scale_warnings
from hybridq.compare.layers import Keep, LayerProbe, probe_layers
from hybridq.compare.metric import Metric
from hybridq.compare.outputs import OutputProbe, Watch, concatenated
from hybridq.compare.results import ComparisonReport, LayerPair, Sizes, Timing
from hybridq.compare.timing import time_pairs, unsteady
from hybridq.errors import DatasetError, ModelError
from hybridq.graph import runtime
from hybridq.graph.chance import random_nodes, seeded
from hybridq.graph.model import Layer, Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed
from hybridq.graph.states import States

Source = onnx.ModelProto | Path


@dataclass(frozen=True, slots=True)
class Inside:
    """What is measured inside the models, on the first ``samples`` samples (None: all).

    ``layers``: where each layer is in both. ``ranges``: what calibration saw of each float tensor, real (min, max):
    values outside are reported as drift. ``keep`` is shown every layer's values.
    """

    layers: Sequence[LayerPair] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: int | None = None
    keep: Keep | None = None

    def __bool__(self) -> bool:
        return bool(self.layers or self.ranges)

    def watch(self) -> DriftWatch:
        """What looks for drift."""
        return DriftWatch(self.ranges, {pair.float_tensor: pair.name for pair in self.layers})


OUTPUTS_ONLY = Inside()


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
    metric: Metric | None = None,
    threads: int = 0,
    seconds: float = 2.0,
    watch: Watch | None = None,
    states: States | None = None,
) -> ComparisonReport:
    """Run both models on every sample and measure what differs; ``feeds`` is read once.

    ``metric`` is the user's figure over all outputs of one model, higher is better; only then are outputs kept.
    ``seconds`` are spent on timing the untouched models, first sample, ``threads`` threads; 0: no timing.
    ``watch`` is called with every sample's feed, float's outputs and the hybrid model's. ``states`` of a recurrent
    model go round in each of the two on its own.

    Raises ModelError when a model cannot run or the outputs' names differ, DatasetError, HybridqError of the metric.
    """
    protos = _proto(float_model), _proto(hybrid_model)
    _check_outputs(*protos)
    sizes = Sizes.of(_bytes(float_model), _bytes(hybrid_model))
    drawing = random_nodes(protos[0].graph)
    if drawing:  # both draw the same numbers
        float_model, hybrid_model = protos = seeded(protos[0]), seeded(protos[1])
        seconds = 0.0  # timing would draw some
    sessions = runtime.session(float_model, threads=threads), runtime.session(hybrid_model, threads=threads)
    drifting = inside.watch()
    layers = _layers(protos, inside, drifting, threads) if inside else None
    one, other = (Rolled(session, states or {}) for session in sessions)
    outputs = OutputProbe(one, other, concatenated(protos[0]), keep=metric is not None, watch=watch)

    def timed(feed: Feed) -> Timing | None:
        return time_pairs(*sessions, feed, seconds=seconds, threads=threads) if seconds > 0 else None

    timing = _pass(feeds, outputs, layers, inside.samples, timed)
    report = _report(protos[0].graph.name, outputs, layers, drifting, metric, sizes)
    chance = [f"random numbers are drawn inside, by '{n}': both models drew the same ones" for n in drawing[:1]]
    scales = scale_warnings(drifting, (i.name for i in protos[0].graph.input))
    late = [unsteady(timing)] if timing is not None else []
    return replace(report, timing=timing, warnings=tuple(filter(None, [*chance, *report.warnings, *scales, *late])))


def _layers(
    protos: tuple[onnx.ModelProto, onnx.ModelProto], inside: Inside, drifting: DriftWatch, threads: int
) -> LayerProbe:
    return probe_layers(*protos, inside.layers, drifting, threads=threads, keep=inside.keep)


def _pass(
    feeds: Iterable[Feed],
    outputs: OutputProbe,
    layers: LayerProbe | None,
    most: int | None,
    timed: Callable[[Feed], Timing | None],
) -> Timing | None:
    """Every sample through all probes; the time that the first one takes. Raises DatasetError without any sample."""
    timing: Timing | None = None
    for feed in feeds:
        fed = outputs.add(feed)
        if outputs.samples == 1:
            timing = timed(feed)
        if layers is not None and (most is None or layers.samples < most):
            layers.add(*fed)
    if not outputs.samples:
        raise DatasetError("there is no sample to compare on")
    return timing


def _report(
    name: str, outputs: OutputProbe, layers: LayerProbe | None, watch: DriftWatch, metric: Metric | None, sizes: Sizes
) -> ComparisonReport:
    drift = watch.found()
    drifted = drift_warning(drift, len(watch.seen))
    return ComparisonReport(
        model=name,
        samples=outputs.samples,
        layer_samples=layers.samples if layers else 0,
        calibration_data=False,
        outputs=outputs.reports(),
        layers=layers.reports() if layers else (),
        sizes=sizes,
        timing=None,
        metric=outputs.metric(metric) if metric is not None else None,
        drift=drift,
        warnings=(*outputs.warnings(), *([drifted] if drifted else [])),
        versions={"hybridq": hybridq.__version__, "onnxruntime": onnxruntime.__version__},
        loop=outputs.loop.found(),
    )


def _proto(source: Source) -> onnx.ModelProto:
    if isinstance(source, onnx.ModelProto):
        return source
    try:
        return onnx.load(source)
    except Exception as error:
        raise ModelError("not an ONNX model, or it cannot be read", path=str(source), hint=str(error)) from error


def _check_outputs(reference: onnx.ModelProto, hybrid: onnx.ModelProto) -> None:
    one, other = (probes.View(proto).outputs for proto in (reference, hybrid))
    if one != other:
        raise ModelError(f"the models' outputs differ: {', '.join(one)} and {', '.join(other)}")


def _bytes(source: Source) -> int:
    """Size of the file, or of what would be written."""
    return source.ByteSize() if isinstance(source, onnx.ModelProto) else source.stat().st_size
