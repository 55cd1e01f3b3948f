"""What may be asked of step 1: every option with its default, its limits and its help, for Python and command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hybridq import targets
from hybridq.calibration.ranges import OWN_OPTION, RangeAlgorithm, RangeOptions
from hybridq.errors import OptionError
from hybridq.quant.dtypes import Granularity, Precision
from hybridq.quant.weight_ranges import WeightAlgorithm
from hybridq.quant.words import no_such_word
from hybridq.search.for_step1.weight_repair import Repair
from hybridq.steps.options.preprocessing import PreprocessingOptions
from hybridq.steps.options.recurrent import LoopOptions
from hybridq.steps.options.validation import AnyText, Flag, Named, Number, OneWord, SeveralNames, asked, need_one_place
from hybridq.targets import Target

WEIGHT_ONLY = (Precision.INT8, Precision.INT16)
REPAIRS = (
    "What is done to weights so that 8 bits harm less, at no cost at run time: biases take back the mean error, "
    "weights are rounded together (gptq), channels share a tensor's range evenly (equalize), the better of biases and "
    "rounding, channels equalized where that is clearly better (better), the best of all (auto): both measure.  "
    "[default: better on onnxruntime; bias where --dtype, --algorithm or another target was asked for]"
)
RANGES = (
    "How ranges are chosen.  [default: trimmed, on onnxruntime mmse where that is measured to be clearly better; "
    "normal where --dtype was asked for]"
)


@dataclass(frozen=True, kw_only=True)
class Step1Options(PreprocessingOptions, LoopOptions):
    """How step 1 works; the same words as ``hybridq step1``. Raises OptionError for what does not exist or fit.

    ``dtype`` is None for the
    target's first, except where that would make a layer slower and less exact at once (``hybridq.plan.defaults``).
    ``every_algorithm`` records the ranges of every algorithm, for a search to choose from.
    """

    data_free: Annotated[bool, Flag("No samples: ranges from BatchNorm parameters, --mean and --std.")] = False
    batch: Annotated[int, Number("Samples a run, for a dynamic batch.", 1, whole=True)] = 1
    samples: Annotated[int | None, Number("Take only so many, spread over the list.", 1, whole=True)] = None
    inputs: Annotated[tuple[str, ...], SeveralNames("Cut the model: these tensors become its inputs (A,B).")] = ()
    outputs: Annotated[
        tuple[str, ...], SeveralNames("Cut the model: these become its outputs, e.g. a detector's heads.")
    ] = ()
    algorithm: Annotated[RangeAlgorithm | None, OneWord(RANGES, RangeAlgorithm)] = None
    percentile: Annotated[float | None, Number("Of percentile.  [default: 99.99]", 50, 100, above=True)] = None
    momentum: Annotated[float | None, Number("Of moving_average.  [default: 0.01]", 0, 1, above=True)] = None
    minimum_range: Annotated[float, Number("Ranges narrower than this are widened (SNPE: 0.01).", 0)] = 0.0
    weights: Annotated[Granularity, OneWord("Scales of weights.", Granularity)] = Granularity.CHANNEL
    weights_algorithm: Annotated[WeightAlgorithm, OneWord("How ranges of weights are chosen.", WeightAlgorithm)] = (
        WeightAlgorithm.NORMAL
    )
    weights_repair: Annotated[Repair | None, OneWord(REPAIRS, Repair)] = None
    weight_only: Annotated[
        Precision | None, OneWord("Store weights in this type, compute in float32.", Precision, WEIGHT_ONLY)
    ] = None
    dtype: Annotated[Precision | None, OneWord("Precision of every layer.  [default: the target's]", Precision)] = None
    target: Annotated[str, Named("The runtime or toolchain that the model is for.", targets.names)] = "onnxruntime"
    force: Annotated[bool, Flag("Overwrite an edited cfg.")] = False
    merge: Annotated[bool, Flag("Keep the edits of an edited cfg and refresh the rest.")] = False
    workers: Annotated[int, Number("Processes that calibrate.", 1, whole=True)] = 1
    cluster: Annotated[str | None, AnyText("Workers of this Dask scheduler calibrate.", "ADDRESS")] = None
    threads: Annotated[int, Number("Threads of ONNX Runtime; 0: all cores.", 0, whole=True)] = 0
    every_algorithm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._agree()

    def _agree(self) -> None:
        """Refuse options that are nothing without another, or contradict it."""
        need_one_place(self.workers, self.cluster)
        if self.force and self.merge:
            raise OptionError("force throws the edits away, merge keeps them", hint="Give one of them.")
        for wanted, name in OWN_OPTION.items():
            if getattr(self, name) is not None and self.by not in (wanted, RangeAlgorithm.AUTO):
                raise OptionError(f"{name} goes with algorithm {wanted}, not {self.by}")
        if self.every_algorithm and (self.weight_only or self.data_free):
            name = "weight_only" if self.weight_only else "data_free"
            raise OptionError(f"{name} leaves a search nothing to measure or choose", hint="Give one of them.")
        if self.weight_only:
            self._agree_weight_only()
        if self.dtype and self.dtype not in self.goal.precisions:
            raise no_such_word(str(self.dtype), self.goal.precisions, f"on the target {self.target} dtype")
        if self.data_free:
            self._agree_data_free()

    def _agree_weight_only(self) -> None:
        if Precision.FLOAT32 not in self.goal.precisions:
            raise OptionError(f"the target {self.target} has no float32, in which weight_only computes")
        if self.dtype not in (None, Precision.FLOAT32):
            raise OptionError(f"weight_only computes in float32, dtype says {self.dtype}", hint="Give one of them.")
        if self.merge:
            raise OptionError("weight_only writes the cfg's layers, merge keeps the old ones", hint="Give one of them.")

    def _agree_data_free(self) -> None:
        usually = {"algorithm": "normal", "samples": None, "batch": 1, "workers": 1, "sequence": None}
        for name, usual in usually.items():
            if getattr(self, name) not in (usual, None):
                raise OptionError(f"{name} is for samples, and data_free reads none", hint="Leave one of them out.")
        if self.repair not in (Repair.NONE, Repair.BIAS):
            raise OptionError(f"weights_repair {self.weights_repair} measures on samples, and data_free reads none")

    @property
    def goal(self) -> Target:
        """The target."""
        return targets.load(self.target)

    @property
    def default(self) -> Precision:
        """The precision of a layer that nothing else is said of."""
        return Precision.FLOAT32 if self.weight_only else self.dtype or self.goal.default

    @property
    def literal(self) -> bool:
        """Whether that precision was asked for, so that no layer is left in float32 because it is faster so."""
        return self.dtype is not None or self.weight_only is not None

    @property
    def by(self) -> RangeAlgorithm:
        """How ranges are chosen: as was said; by default nothing is clipped that any reader would hear."""
        usual = RangeAlgorithm.NORMAL if self.literal or self.data_free else RangeAlgorithm.TRIMMED
        return self.algorithm or usual

    @property
    def repair(self) -> Repair:
        """What is done to weights: as was said; by default what costs nothing, where hybridq's integers are what runs.

        Other toolchains round weights themselves.
        """
        if self.weights_repair is not None:
            return self.weights_repair
        asked = self.literal or self.data_free or self.algorithm is not None
        free = self.goal.latency_aware and not asked and self.weights_algorithm is WeightAlgorithm.NORMAL
        return Repair.BETTER if free else Repair.BIAS

    @property
    def ranges(self) -> RangeOptions:
        """The options of the range algorithms."""
        given = {k: v for k in OWN_OPTION.values() if (v := getattr(self, k)) is not None}
        return RangeOptions(minimum_range=self.minimum_range, **given)


def need_threads(threads: object, workers: object = 1) -> None:
    """Refuse numbers of threads and processes that are none. Raises OptionError."""
    for name, given in (("threads", threads), ("workers", workers)):
        next(one.kind for one in asked(Step1Options) if one.name == name).checked(given, name)
