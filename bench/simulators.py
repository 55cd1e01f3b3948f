"""Tools whose result runs in their own simulator, each in its own environment: plain 8 bits and hybridq's choice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from subjects import ZOO_SCORES, Subject

import hybridq

HERE = Path(__file__).resolve().parent
CONSUMERS = HERE.parent / "tests" / "consumers"
Outputs = list[list[np.ndarray]]


def called(python: Path, script: Path, folder: Path, *words: object) -> None:
    """Run a script in a tool's environment. Raises RuntimeError with its last word."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), str(script), *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1][:200])


def samples(subject: Subject, folder: Path, *parts: str) -> None:
    """``calibration.npz`` and ``evaluation.npz`` as the scripts of ``contenders/`` take them."""
    for part in parts:
        feeds = getattr(subject, part)
        np.savez(folder / f"{part}.npz", **{k: np.stack([s[k] for s in feeds]) for k in feeds[0]})


def scored(subject: Subject, outputs: Outputs) -> float:
    """The zoo's first figure of outputs in the order of the evaluation samples."""
    told = iter(outputs)
    found = subject.zoo.score(lambda _: next(told))
    return round(float(next(found[k] for k in ZOO_SCORES if k in found)), 4)


def kept(path: Path) -> Outputs:
    """What a script of ``contenders/`` left."""
    with np.load(path) as held:
        return [list(one) for one in zip(*(held[name] for name in held.files), strict=True)]


def plain(script: str, subject: Subject, model: Path, python: Path, folder: Path) -> float:
    """The tool's own 8 bits."""
    samples(subject, folder, "calibration", "evaluation")
    called(python, HERE / "contenders" / script, folder, model, folder)
    return scored(subject, kept(folder / "outputs.npz"))


def aimet(subject: Subject, build: Path, python: Path, folder: Path) -> float:
    """Hybridq's choice as encodings, in AIMET-ONNX's simulation."""
    encodings = hybridq.step4(build, "aimet-1.0.0", folder / "model.encodings", force=True).path
    model = hybridq.step4(build, "onnx-float", folder / "float.onnx", force=True).path
    name = next(iter(subject.evaluation[0]))
    np.savez(folder / "samples.npz", **{f"{i:04d}": s[name] for i, s in enumerate(subject.evaluation)})
    called(python, CONSUMERS / "aimet_loads.py", folder, model, folder / "samples.npz", folder / "out.npz", encodings)
    with np.load(folder / "out.npz") as held:
        names = list(dict.fromkeys(key.rpartition("|")[0] for key in held.files))
        count = len(subject.evaluation)
        return scored(subject, [[held[f"{n}|{i:04d}"] for n in names] for i in range(count)])


def rknn2(subject: Subject, build: Path, python: Path, folder: Path) -> float:
    """Hybridq's choice by ``convert.py``, in RKNN-Toolkit2's simulator. ``build`` is made where it is not there."""
    if not (build / "hybrid.onnx").exists():
        feeds, few = subject.calibration, subject.calibration[:4]
        listed = _listed(build.with_name(f"{build.name}-samples"), feeds)
        hybridq.auto(subject.path, listed, build, evaluation=few, threads=1, seconds=0, target="rknn2")
    export = hybridq.step4(build, "rknn2", folder / "for_rknn", force=True).path
    listed = _listed(folder / "evaluation", subject.evaluation)
    called(python, export / "convert.py", export, "--no-analysis", "--simulate", listed)
    found = {tuple(map(int, p.stem.split("_"))): p for p in (export / "rknn" / "outputs").glob("*.npy")}
    by_sample: dict[int, list[np.ndarray]] = {}
    for (sample, _), path in sorted(found.items()):
        by_sample.setdefault(sample, []).append(np.load(path))
    return scored(subject, list(by_sample.values()))


def _listed(folder: Path, feeds: Any) -> Path:
    """Samples as files, and the list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, feed in enumerate(feeds):
        names = [f"{number:04d}_{i}.npy" for i in range(len(feed))]
        for name, values in zip(names, feed.values(), strict=True):
            np.save(folder / name, values)
        lines.append(" ".join(names))
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


Choice = Callable[[Subject, Path, Path, Path], float]
SIMULATORS: dict[str, tuple[str, str, str, Choice]] = {  # title, plain 8 bits, a build of its own, the choice
    "aimet": ("AIMET-ONNX, simulated", "by_aimet.py", "", aimet),
    "rknn2": ("RKNN-Toolkit2, simulated", "by_rknn2.py", "rknn2", rknn2),
}
PACKAGES = {"aimet": "aimet-onnx", "rknn2": "rknn-toolkit2"}
