"""What is known of a build besides the comparison itself: the build, the search, the lint; plain values to judge by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hybridq.report.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Remedy:
    """Layers that the lint or a search would raise to ``precision``; ``sqnr_db`` where a search measured the result.

    ``cause`` is what that mends.
    """

    layers: tuple[str, ...]
    precision: str
    why: str
    sqnr_db: float | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of one model: the lowest SQNR in dB over the outputs, that of the worst slice, the centered one, the metric.

    ``output``, ``worst_output`` and ``centered_output`` name the outputs whose figures these are.
    """

    sqnr_db: float | None = None
    worst_sqnr_db: float | None = None
    centered_sqnr_db: float | None = None
    metric: float | None = None
    output: str = ""
    worst_output: str = ""
    centered_output: str = ""

    @classmethod
    def of(
        cls,
        whole: Mapping[str, float | None],
        worst: Mapping[str, float | None],
        centered: Mapping[str, float | None],
        metric: float | None = None,
    ) -> Accuracy:
        """The lowest figures of what is known by output."""
        (a, a_of), (b, b_of), (c, c_of) = map(_lowest, (whole, worst, centered))
        return cls(a, b, c, metric, a_of, b_of, c_of)


def _lowest(figures: Mapping[str, float | None]) -> tuple[float | None, str]:
    known = {name: db for name, db in figures.items() if db is not None}
    name = min(known, key=lambda n: known[n], default="")
    return known.get(name), name


@dataclass(frozen=True)
class Known:
    """Facts beside a ``ComparisonReport``; the defaults know nothing.

    ``folder`` is empty for a model that hybridq did not build. ``model``, ``dataset`` and ``flags`` are step1's, for
    commands that calibrate again, ``search_flags`` those of the last search and ``compare_flags`` those of this
    comparison; ``evaluation`` and ``metric`` are what it compared on and by. ``beside`` is a folder that does not exist
    yet. ``high_fraction`` is the share of MACs above 8 bits, 0 to 1; ``fidelity_db`` how far
    ONNX Runtime, optimized, is from the file as written.
    ``shared`` has, by layer, all layers of its group, which share parameters and rise as one.
    ``board`` is the target, in words, where that is not the runtime in which this machine's times are taken.
    ``algorithm`` chose the ranges, ``recorded`` are those whose ranges are at hand without calibrating. ``together``
    has, by layer, what must rise with it so that its gain is not rounded away; ``wider`` the precision to raise to.
    ``trimmed`` are layers whose range was cut where all readers are deaf: what they lose alone says little.
    ``edited`` are layers whose parameters a person edited, ``by_design`` those that step1 leaves in float, ``joined``
    the tensors that a Concat joins into an output, ``listed`` those that an output's rows are chosen from.
    ``slow_kernels`` says which layers the runtime computes no faster in 8 bits; empty where it computes all so.
    ``all_8bit`` and ``front`` are a search's, ``left_high`` is the share of MACs above 8 bits before it,
    ``predicted`` is what the what-if would raise, ``prediction`` what it knows.
    """

    folder: str = "DIR"
    model: str = "MODEL"
    dataset: str = "DATASET"
    flags: tuple[str, ...] = ()
    search_flags: tuple[str, ...] = ()
    compare_flags: tuple[str, ...] = ()
    evaluation: str = ""
    metric: str = ""
    beside: str = "build"
    high_fraction: float | None = None
    fidelity_db: float | None = None
    board: str = ""
    slow_kernels: str = ""
    algorithm: str = ""
    recorded: frozenset[str] = frozenset()
    wider: str = "float32"
    together: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trimmed: frozenset[str] = frozenset()
    edited: frozenset[str] = frozenset()
    by_design: frozenset[str] = frozenset()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lint: tuple[Remedy, ...] = ()
    front: tuple[Remedy, ...] = ()
    predicted: Remedy | None = None
    prediction: Prediction | None = None
    all_8bit: Accuracy | None = None
    left_high: float = 0.0
    searched: bool = False
