"""``compare``: any two models with the same inputs and outputs get the same report: another tool's, and float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from hybridq.compare import ComparisonReport, Inside, Outside, Runs, compare, pairs_by_name
from hybridq.dataset import Dataset, InputSpec, Preprocessing, open_dataset
from hybridq.errors import ModelError
from hybridq.execution.pool import pool
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.commit import commit
from hybridq.files.place import need_folder
from hybridq.files.reading import look_at
from hybridq.graph.edit import inputs_of
from hybridq.graph.load import load
from hybridq.graph.rolling import follower
from hybridq.graph.states import States, states_of
from hybridq.graph.words import first_line
from hybridq.report import Extras, Known, Verdict, judge, report_json, write_report
from hybridq.report.gallery import Gallery
from hybridq.steps.common import REPORT, titled
from hybridq.steps.known import step1_flags
from hybridq.steps.options.as_typed import said
from hybridq.steps.options.comparison import ComparisonOptions
from hybridq.steps.options.preprocessing import PreprocessingOptions
from hybridq.steps.options.recurrent import StateOptions
from hybridq.steps.options.validation import share, takes
from hybridq.steps.step3_page import Watched


@dataclass(frozen=True)
class Compared:
    """The comparison, the verdict on the second model, and the folder of the report's files (None: not written)."""

    report: ComparisonReport
    verdict: Verdict
    folder: Path | None

    def to_json(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        return report_json(self.report, self.verdict)


@takes(ComparisonOptions, PreprocessingOptions, StateOptions)
def compare_models(
    float_model: Path | str,
    other_model: Path | str,
    dataset: Any,
    *,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Compared:
    """Run both models on ``dataset`` and compare; the first is the reference. ``out`` is a folder for the report.

    Layers are matched by the names of the tensors that both compute. ``options`` are the fields of
    ``ComparisonOptions``, of ``PreprocessingOptions`` and of ``StateOptions``. Raises ModelError where a model cannot
    be read or the inputs or outputs differ, DatasetError, OptionError.
    """
    asked, pictures, loop = share(options, ComparisonOptions, PreprocessingOptions, StateOptions)
    wanted, preprocessing = ComparisonOptions(**asked), PreprocessingOptions(**pictures).preprocessing
    if out is not None:
        need_folder(Path(out))
    pair = ModelPair.read(Path(float_model), Path(other_model), StateOptions(**loop).pairs)
    data = pair.samples(dataset, wanted, preprocessing)
    watched = Watched(data, Gallery(preprocessing, wanted.drawer))
    found = replace(_compared(pair, watched, wanted, progress), model=titled(pair.paths[1]))
    flags = (*step1_flags(preprocessing), *said(StateOptions(**loop)))
    known = Known(folder="", model=str(float_model), dataset=str(data.path), flags=flags, metric=wanted.metric or "")
    judged = judge(found, known)
    if out is None:
        return Compared(found, judged, None)
    gallery = watched.gallery
    with commit(Path(out)) as new:
        write_report(found, new / REPORT, judged, Extras(shots=gallery.shots(), sqnr=gallery.sqnr))
    return Compared(found, judged, Path(out) / REPORT)


@dataclass(frozen=True)
class ModelPair:
    """The float model and another, by their paths, with what goes round in both."""

    paths: tuple[Path, Path]
    protos: tuple[onnx.ModelProto, onnx.ModelProto]
    states: States
    inputs: tuple[InputSpec, ...]

    @classmethod
    def read(cls, first: Path, other: Path, pairs: Sequence[str]) -> ModelPair:
        """Both models. Raises ModelError where one cannot be read or their inputs differ."""
        protos = _load(first), _load(other)
        states = states_of(protos[0], pairs)
        inputs = (replace(spec, state=spec.name in states) for spec in _same_inputs(*protos, other))
        return cls((first, other), protos, states, tuple(inputs))

    def samples(self, dataset: Any, wanted: ComparisonOptions, preprocessing: Preprocessing) -> Dataset:
        """What both run on."""
        follow = follower(self.paths[0], self.states, threads=wanted.threads)
        return open_dataset(dataset, self.inputs, preprocessing, wanted.samples, wanted.sequence, follow)


def _compared(pair: ModelPair, watched: Watched, wanted: ComparisonOptions, progress: Progress) -> ComparisonReport:
    with pool(wanted.workers, wanted.cluster, threads=wanted.threads) as place:
        return compare(
            pair.paths[0].resolve(),
            pair.paths[1].resolve(),
            watched.feeds(progress),
            inside=Inside(pairs_by_name(*pair.protos), samples=wanted.layer_samples),
            outside=Outside(wanted.scored, wanted.seconds, watched.gallery.add),
            states=pair.states,
            runs=Runs(wanted.threads, watched.runner(place, progress), place),
        )


def _load(path: Path) -> onnx.ModelProto:
    look_at(path, ModelError)
    try:
        return load(path)
    except Exception as error:  # protobuf's errors share no public base class
        raise ModelError("not an ONNX model, or cut short", path=str(path), hint=first_line(error)) from error


def _same_inputs(one: onnx.ModelProto, other: onnx.ModelProto, path: Path) -> tuple[InputSpec, ...]:
    first, second = _inputs(one), _inputs(other)
    if first != second:
        told = (", ".join(str(spec) for spec in specs) or "none" for specs in (first, second))
        raise ModelError("its inputs are others: {}, not {}".format(*reversed(list(told))), path=str(path))
    return first


def _inputs(proto: onnx.ModelProto) -> tuple[InputSpec, ...]:
    return tuple(_spec(value) for value in inputs_of(proto.graph))


def _spec(value: onnx.ValueInfoProto) -> InputSpec:
    tensor = value.type.tensor_type
    axes = [
        d.dim_value if d.HasField("dim_value") else d.dim_param or f"axis {i}" for i, d in enumerate(tensor.shape.dim)
    ]
    kind = tensor.elem_type or TensorProto.FLOAT
    dtype = "object" if kind == TensorProto.STRING else str(helper.tensor_dtype_to_np_dtype(kind))
    return InputSpec(value.name, tuple(axes) if tensor.HasField("shape") else None, dtype)
