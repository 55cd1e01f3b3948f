"""``compare``: any two models with the same inputs and outputs get the same report: another tool's, and float."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from hybridq.compare import ComparisonReport, Inside, compare, pairs_by_name
from hybridq.dataset import InputSpec, open_dataset
from hybridq.errors import ModelError
from hybridq.execution.pool import pool
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.commit import commit
from hybridq.files.reading import look_at
from hybridq.graph.edit import inputs_of
from hybridq.graph.load import load
from hybridq.graph.rolling import follower
from hybridq.graph.states import states_of
from hybridq.graph.words import first_line
from hybridq.report import Extras, Known, Verdict, judge, report_json, write_report
from hybridq.report.gallery import Gallery
from hybridq.steps.common import REPORT
from hybridq.steps.comparison_options import ComparisonOptions
from hybridq.steps.kinds import share, takes
from hybridq.steps.known import step1_flags
from hybridq.steps.loop_options import StateOptions
from hybridq.steps.preprocessing_options import PreprocessingOptions
from hybridq.steps.story import Watched


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
    paths = Path(float_model), Path(other_model)
    protos = _load(paths[0]), _load(paths[1])
    states = states_of(protos[0], StateOptions(**loop).pairs)
    specs = [replace(spec, state=spec.name in states) for spec in _same_inputs(*protos, paths[1])]
    follow = follower(paths[0], states, threads=wanted.threads)
    data = open_dataset(dataset, specs, preprocessing, wanted.samples, wanted.sequence, follow)
    watched = Watched(data, Gallery(preprocessing, wanted.drawer))
    gallery = watched.gallery
    with pool(wanted.workers, wanted.cluster, threads=wanted.threads) as place:
        found = compare(
            paths[0].resolve(),
            paths[1].resolve(),
            watched.feeds(progress),
            inside=Inside(pairs_by_name(*protos), samples=wanted.layer_samples),
            metric=wanted.scored,
            threads=wanted.threads,
            seconds=wanted.seconds,
            watch=gallery.add,
            runner=watched.runner(place, progress),
            states=states,
            pool=place,
        )
    found = replace(found, model=paths[1].stem)
    flags = tuple(step1_flags(preprocessing))
    judged = judge(found, Known(folder="", model=str(float_model), dataset=str(data.path), flags=flags))
    if out is None:
        return Compared(found, judged, None)
    with commit(Path(out)) as new:
        write_report(found, new / REPORT, judged, Extras(shots=gallery.shots(), sqnr=gallery.sqnr))
    return Compared(found, judged, Path(out) / REPORT)


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
