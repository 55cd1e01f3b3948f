"""Step 2: validate the cfg, plan, build, and see that ONNX Runtime computes what the file says."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnxruntime import __version__ as ort_version

from hybridq.build.builder import build
from hybridq.compare.fidelity import Fidelity, check_fidelity
from hybridq.errors import ModelError, Problem, StorageError
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.commit import commit, is_ours, reading
from hybridq.files.place import need_folder
from hybridq.files.reading import exists, look_at
from hybridq.files.seal import file_digest, read_sealed, text_digest
from hybridq.graph import runtime
from hybridq.graph.chance import seeded
from hybridq.graph.onnx_file import OnnxFile
from hybridq.graph.runtime import Feed
from hybridq.graph.trial import death
from hybridq.plan.narrowed import narrowed
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.records import QuantConfig
from hybridq.report.build_json import FORMAT as BUILD_FORMAT
from hybridq.report.build_json import BuildReport, report_build, write_build
from hybridq.report.effects import Effects
from hybridq.steps.common import BUILD, HYBRID, REPORT, read_config, read_state
from hybridq.steps.options.step1 import need_threads
from hybridq.storage.state import CFG, State, assemble

MARK = "hybridq.cfg"  # the metadata property that says from which edits a model was built
BUILD_AGAIN = "Run `hybridq step2` again."
LARGE = 1 << 27  # bytes of float weights


@dataclass(frozen=True)
class Step2Result:
    """What step2 built, what differs from what was asked, and whether ONNX Runtime computes it faithfully."""

    path: Path
    report: BuildReport
    problems: list[Problem]
    fidelity: Fidelity | None


def check(directory: Path | str) -> list[Problem]:
    """Validate a folder's cfg, and that every file is what hybridq wrote; returns warnings and notes.

    Raises ConfigError with every problem of the cfg, StorageError for a damaged file.
    """
    folder = Path(directory)
    problems = read_config(folder, read_state(folder, verify=True))[1]
    if exists(folder / HYBRID) and exists(folder / BUILD):
        verify_built(folder)
    return problems


def verify_built(folder: Path) -> None:
    """Raise StorageError unless ``hybrid.onnx`` is the file that step2 wrote."""
    with reading(folder) as view:
        held = read_sealed(view.path(BUILD), (BUILD_FORMAT,), BUILD_AGAIN).get("files")
        for name in (HYBRID, f"{HYBRID}.data"):
            path = view.path(name)
            known = held.get(name) if isinstance(held, dict) else None
            if (known or exists(path)) and file_digest(path) != known:
                raise StorageError("damaged, or not what step2 built", path=str(path), hint=BUILD_AGAIN)


def step2(
    directory: Path | str,
    out: Path | str | None = None,
    *,
    portable: bool = False,
    threads: int = 0,
    progress: Progress = no_progress,
) -> Step2Result:
    """Build ``hybrid.onnx`` and ``build.json`` from what step1 left and a person edited.

    ``out`` writes the model elsewhere. ``portable`` leaves out what only ONNX Runtime needs. Raises ConfigError with
    every problem of the cfg, StorageError when step1's files are missing or damaged; nothing is written then.
    """
    need_threads(threads)
    folder = Path(directory)
    need_folder(Path(out).parent if out else folder)
    state = read_state(folder, verify=True)
    config, problems = read_config(folder, state)
    progress("building", 0, None)
    plan = make_plan(state.model, state.calibrated, config, state.weights, portable=portable)
    file, report = make(state, config, plan)
    problems = [*problems, *(replace(p, path=str(folder / CFG)) for p in narrowed(state.model, plan, config))]
    target = Path(out) if out else folder / HYBRID
    if out is not None:
        _refuse_foreign(target)
    helper.set_model_props(
        file.proto, {p.key: p.value for p in file.proto.metadata_props} | {MARK: edits_digest(config)}
    )
    void = (f"{target.name}.data", *((REPORT,) if target.parent == folder else ()))
    with commit(target.parent, remove=void) as new:
        written = new / target.name
        file.write(written)
        _check_model(written)
        progress("comparing ONNX Runtime with itself", 0, None)
        fidelity = _fidelity(written, state, report, threads)
        if out is None:
            files = {p.name: file_digest(p) for p in sorted(new.iterdir()) if p.is_file()}
            write_build(new / BUILD, state.model, report, fidelity, {**files, **state.digests})
    return Step2Result(target, report, problems, fidelity)


def make(state: State, config: QuantConfig, plan: QuantPlan) -> tuple[OnnxFile, BuildReport]:
    """The model of a plan and its report, in memory."""
    file = build(state.model, plan, state.weights)
    floats = sum(int(w.nbytes) for w in state.weights.values())
    unedited = QuantConfig(config.target, {}, state.calibrated.entries, {})
    plain = plan
    if config.edits:
        plain = make_plan(state.model, state.calibrated, unedited, state.weights, portable=plan.portable)
    effects = Effects(state.model, state.calibrated, config, state.weights, plan, plain)
    return file, report_build(effects, (file.weight_bytes, floats))


def _fidelity(path: Path, state: State, report: BuildReport, threads: int) -> Fidelity | None:
    """Compare ONNX Runtime with itself; for large models in a process of its own, whose memory goes with it."""
    if not state.sample or set(report.counts) == {"float32"}:
        return None
    feed = {name: np.array(values) for name, values in state.sample.items()}
    ended = death(path, feed, threads=threads)
    if ended:
        hint = "Give the layers beside its If, Loop or NonZero float32, or try another version of ONNX Runtime."
        raise ModelError(
            f"ONNX Runtime {ort_version} ends the process ({ended}) when it runs the built model", hint=hint
        )
    if report.float_weight_bytes < LARGE:
        return check_fidelity(path, feed, threads=threads, given=partial(_float_outputs, state, feed, threads))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(check_fidelity, path, feed, threads=threads).result()


def _float_outputs(state: State, feed: Feed, threads: int) -> dict[str, Any]:
    """The float model's outputs on a sample."""
    names = list(state.model.outputs)
    session = runtime.session(seeded(assemble(state.model.proto, state.weights)), threads=threads)
    return dict(zip(names, runtime.run(session, feed, names), strict=True))


def edits_digest(config: QuantConfig) -> str:
    """The fingerprint of a cfg's edits: comments and layout do not count."""
    edits = sorted((e.key, e.field, e.after) for e in config.edits)
    return text_digest(json.dumps(edits))


def built_from(model: onnx.ModelProto) -> str:
    """The fingerprint of the edits that a model was built with; empty for foreign models."""
    return next((p.value for p in model.metadata_props if p.key == MARK), "")


def _refuse_foreign(target: Path) -> None:
    """Keep ``-o`` from replacing anything but a model that hybridq built."""
    if target.suffix != ".onnx" or not is_ours(target.name):
        raise StorageError("a model's name ends in .onnx", path=str(target), hint="Give another -o.")
    if not exists(target):
        return
    look_at(target, hint="Give another -o.")
    try:
        found = onnx.load(target, load_external_data=False)
    except Exception:  # no ONNX file at all
        found = onnx.ModelProto()
    if found.producer_name != "hybridq":
        raise StorageError("exists, and hybridq did not build it", path=str(target), hint="Give another -o.")


def _check_model(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise ModelError(f"the built model is not valid ONNX, which is a fault of hybridq: {error}") from error
