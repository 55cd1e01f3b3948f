"""What a comparison found: frozen, and plain enough for JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from hybridq.quant.metrics import Damage, Slice

FORMAT = "hybridq.report/1"
KEPT_SLICES = 256  # of one output; beyond this the least damaged are left out of the report


@dataclass(frozen=True, slots=True)
class LayerPair:
    """One layer, and where its value is in both graphs.

    ``float_tensor`` is its output after the absorbed activation in the canonical float graph, ``hybrid_tensor`` the
    float tensor of the hybrid graph that carries the same value (behind the DequantizeLinear where it is stored as
    integers). ``inputs`` are the float graph's tensors that the layer reads, no initializers.
    """

    name: str
    op: str
    precision: str
    float_tensor: str
    hybrid_tensor: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorFigures:
    """How far one tensor is from its reference, over all samples.

    ``sqnr_db`` is ``inf`` where nothing differs (``identical``) and ``-inf`` where one side alone has ``nonfinite``
    numbers or another shape (``mismatched`` samples). ``euclidean`` is the distance a sample (root mean square over
    samples), ``normalized_euclidean`` is ``|float - hybrid| / |float|``. ``largest_at`` is (sample, index...).
    """

    sqnr_db: float
    cosine: float
    euclidean: float
    normalized_euclidean: float
    mse: float
    largest_error: float
    largest_at: tuple[int, ...]
    identical: bool
    nonfinite: int
    mismatched: int

    @classmethod
    def of(cls, damage: Damage) -> TensorFigures:
        """The figures that follow from the sums."""
        return cls(
            damage.sqnr_db,
            damage.cosine,
            damage.euclidean,
            damage.normalized_euclidean,
            damage.mse,
            damage.largest.error,
            damage.largest.at,
            damage.identical,
            damage.nonfinite,
            damage.mismatched,
        )


@dataclass(frozen=True, slots=True)
class SliceReport:
    """One cut of an output, ``[start, stop)`` along ``axis``; axis -1 is the whole output."""

    axis: int
    start: int
    stop: int
    sqnr_db: float

    @classmethod
    def of(cls, one: Slice) -> SliceReport:
        """The slice as a reader needs it."""
        return cls(one.axis, one.start, one.stop, one.sqnr_db)


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One output of the model.

    ``sqnr_db`` is of the whole, signal power over noise power; ``worst_sqnr_db`` of its ``worst`` slice, that slice's
    variance over its noise. ``centered_sqnr_db`` takes as signal only what varies over the samples; None for a single
    sample, and where nothing varies.

    ``slices`` holds at most ``KEPT_SLICES``, the most damaged ones, in the order of axes and indices. ``equal`` is the
    share of equal values, 0 to 1, where an output holds integers or booleans: class numbers have no noise.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sqnr_db: float
    worst_sqnr_db: float
    figures: TensorFigures
    worst: SliceReport
    slices: tuple[SliceReport, ...]
    equal: float | None = None
    centered_sqnr_db: float | None = None


@dataclass(frozen=True, slots=True)
class LayerHistogram:
    """Counts of a layer's float values in bins of one width over ``[min, max]``; the outermost hold what is beyond.

    ``least`` and ``largest`` are the layer's own values, which a range shared with other layers does not tell.
    """

    min: float
    max: float
    counts: tuple[int, ...]
    least: float
    largest: float


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer: ``entire`` in the whole hybrid model, ``individual`` as the only quantized layer.

    ``individual`` gives the layer the float model's inputs, unquantized: what is left is the damage of its weights and
    of its output's storage. None with the reason in ``note`` where a figure could not be measured.
    """

    name: str
    op: str
    precision: str
    tensor: str
    entire: TensorFigures | None
    individual: TensorFigures | None
    note: str = ""
    histogram: LayerHistogram | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """File sizes in bytes; ``ratio`` is hybrid over float."""

    float_bytes: int
    hybrid_bytes: int
    ratio: float

    @classmethod
    def of(cls, float_bytes: int, hybrid_bytes: int) -> Sizes:
        """Both sizes and their ratio."""
        return cls(float_bytes, hybrid_bytes, hybrid_bytes / float_bytes)


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds per inference, medians over alternating pairs of runs of the untouched models.

    ``speedup`` is the median over pairs of float time / hybrid time: above 1 the hybrid model is faster. ``low`` and
    ``high`` are that ratio's quartiles. ``threads`` 0 means all cores.
    """

    float_ms: float
    hybrid_ms: float
    speedup: float
    low: float
    high: float
    pairs: int
    threads: int


@dataclass(frozen=True, slots=True)
class MetricReport:
    """The user's own figure, higher is better; ``drop`` is float minus hybrid."""

    name: str
    float_value: float
    hybrid_value: float
    drop: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Values of the float model outside the range its calibration saw.

    ``share`` is the fraction of elements outside ``[min, max]``; ``excess`` how far the farthest one lies beyond the
    nearer end, as a fraction of the range's width. ``significant``: the calibration set does not cover this data.
    """

    tensor: str
    layer: str
    min: float
    max: float
    seen_min: float
    seen_max: float
    share: float
    excess: float
    significant: bool


@dataclass(frozen=True, slots=True)
class BoardLayer:
    """One layer as a device computed it; ``source`` is its name there.

    ``against_float`` and ``against_plan`` compare the device with the float model and with our simulation, ``planned``
    the simulation with float. ``stated_cosine`` is the toolkit's own figure, None where it has none.
    """

    name: str
    op: str
    precision: str
    source: str
    against_float: TensorFigures
    against_plan: TensorFigures
    planned: TensorFigures
    as_planned: bool
    stated_cosine: float | None
    note: str


@dataclass(frozen=True, slots=True)
class BoardReport:
    """What a device computed. ``form`` says whose files these are, ``samples`` our samples it ran on, from 0.

    ``device``: not the toolkit's simulator. ``missing`` layers have no tensor there. ``last_as_planned`` is the last
    layer before ``first_apart``, from which on the device computes something else; both are empty where there is none.
    ``cause`` is what the values of that layer tell.
    """

    form: str
    device: bool
    samples: tuple[int, ...]
    layers: tuple[BoardLayer, ...]
    missing: tuple[str, ...]
    last_as_planned: str
    first_apart: str
    cause: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """Signal over error in dB of steps ``[start, stop)`` of all sequences."""

    start: int
    stop: int
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class LoopCourse:
    """One output of a recurrent model over time. ``state``: it is what goes round, and no answer.

    ``course`` is ``settles``, ``grows`` or ``explodes``; empty where there are too few steps to say.
    """

    name: str
    state: bool
    sqnr_db: float
    stretches: tuple[Stretch, ...]
    course: str


@dataclass(frozen=True, slots=True)
class LoopReport:
    """What became of the error of a recurrent model, each model fed its own states; ``steps`` of the longest sequence.

    ``states`` are inputs, and the output of the step before that each takes.
    """

    states: dict[str, str]
    sequences: int
    steps: int
    courses: tuple[LoopCourse, ...]


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    """Float and hybrid in another runtime on the same samples, each as that runtime's converter makes it.

    SQNRs in dB are the lowest over the outputs, against ONNX Runtime's float: of the runtime's own float model and of
    the hybrid one. ``metric`` and ``timing`` are None where not asked for.
    """

    name: str
    title: str
    version: str
    float_sqnr_db: float
    sqnr_db: float
    metric: MetricReport | None
    timing: Timing | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonReport:
    """Float and hybrid on the same samples. ``layer_samples`` of them went into ``layers`` and ``drift``.

    ``outputs`` are a model's answers; states of a recurrent one are in ``loop``.
    """

    model: str
    samples: int
    layer_samples: int
    calibration_data: bool
    outputs: tuple[OutputReport, ...]
    layers: tuple[LayerReport, ...]
    sizes: Sizes
    timing: Timing | None
    metric: MetricReport | None
    drift: tuple[Drift, ...]
    warnings: tuple[str, ...]
    versions: dict[str, str]
    board: BoardReport | None = None
    runtime: RuntimeReport | None = None
    loop: LoopReport | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, described by ``schemas/report-1.schema.json``.

        JSON has no infinity and no NaN: they become null (``identical``, ``nonfinite`` and ``mismatched`` tell why).
        """
        found: dict[str, Any] = plain({"format": FORMAT, **dataclasses.asdict(self)})
        return found


def kept_slices(found: list[Slice]) -> tuple[SliceReport, ...]:
    """The most damaged slices, at most ``KEPT_SLICES``, in their own order."""
    if len(found) > KEPT_SLICES:
        worst = sorted(range(len(found)), key=lambda i: found[i].sqnr_db)[:KEPT_SLICES]
        found = [found[i] for i in sorted(worst)]
    return tuple(SliceReport.of(one) for one in found)


def plain(value: Any) -> Any:
    """A value as JSON has it: tuples become lists, numbers that are not finite null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
