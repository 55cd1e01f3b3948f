"""What defaults are judged on: models with calibration and evaluation samples, and a score against the float model.

Those of the zoo (a folder with ``zoo.py``), and the small ones that ``train_kinds.py`` trains.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.graph import runtime
from hybridq.graph.runtime import Feed, Session

Array = NDArray[Any]
Outputs = list[Array]
ENOUGH_DB = 80.0  # what is better than this counts no more
AROUND = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2)  # of a detector's threshold
ZOO_SCORES = (  # which of a zoo model's figures counts; the first that it has
    "box_f1_vs_float",
    "argmax_agree_vs_float",
    "pixel_error_mean_vs_float",
    "psnr_vs_float",
    "decision_agree_vs_float",
)


@dataclass
class Subject:
    """A model to be judged. ``points`` compares outputs, sample by sample, with the float model's: 100 is equality."""

    name: str
    path: Path
    calibration: Sequence[Feed]
    evaluation: Sequence[Feed]
    points: Callable[[Sequence[Outputs], Sequence[Outputs]], float] | None = None
    zoo: Any = None
    known: list[Outputs] = field(default_factory=list)

    @cached_property
    def reference(self) -> list[Outputs]:
        """The float model's outputs on the evaluation samples."""
        return outputs_of(self.path, self.evaluation)

    def figures(self, model: Path) -> dict[str, float]:
        """``db`` (mean over outputs, all samples together), ``worst_db`` (of the worst sample), and the score.

        ``around``: of the zoo's detectors the mean score over thresholds around their own.
        """
        found = outputs_of(model, self.evaluation)
        said = {"db": _db(self.reference, found), "worst_db": _worst_db(self.reference, found)}
        if self.points is not None:
            said["score"] = self.points(self.reference, found)
        if self.zoo is not None:
            scored = self.zoo.score(runtime.session(model, threads=1))
            said["score"] = next((scored[k] for k in ZOO_SCORES if k in scored), float("nan"))
            if "box_f1_vs_float" in scored:
                said["around"] = _f1_around(self.zoo, runtime.session(model, threads=1))
        return {k: round(float(v), 4) for k, v in said.items()}

    def by_sample(self, model: Path) -> list[float]:
        """SQNR in dB of each evaluation sample."""
        return [_db([a], [b]) for a, b in zip(self.reference, outputs_of(model, self.evaluation), strict=True)]


def asking(doc: str | None) -> argparse.ArgumentParser:
    """The options that choose models, for a script that says ``doc`` of itself."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, help="a folder with zoo.py")
    parser.add_argument("--kinds", type=Path, help="a folder that train_kinds.py made")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="models whose names hold one of these")
    return parser


def asked(chosen: argparse.Namespace) -> Iterator[Subject]:
    """The models that the options of ``asking`` choose."""
    return subjects(chosen.zoo, chosen.kinds, chosen.only)


def subjects(zoo: Path | None, kinds: Path | None, only: Sequence[str] = ()) -> Iterator[Subject]:
    """All models of both folders whose names hold one of ``only``."""
    if zoo is not None:
        yield from of_zoo(zoo, only)
    for folder in sorted(kinds.iterdir()) if kinds is not None else []:
        if _wanted(folder.name, only):
            yield of_kind(folder)


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(o in name for o in only)


def of_zoo(folder: Path, only: Sequence[str]) -> Iterator[Subject]:
    spec = importlib.util.spec_from_file_location("zoo", folder / "zoo.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} holds no zoo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    for name in module.names():
        if _wanted(name, only):
            held = module.load(name)
            evaluation = [feed for feed, _ in held.evaluation()]
            calibration, path = list(held.calibration()), Path(held.model_path)
            names = [i.name for i in runtime.session(path, threads=1).get_inputs()]
            whole = all(n in feed for feed in evaluation for n in names)  # a recurrent model is fed its own states
            yield Subject(name, path, calibration, evaluation if whole else calibration, zoo=held)


def of_kind(folder: Path) -> Subject:
    """A model that ``train_kinds.py`` made."""
    calibration, evaluation = (
        [{k: v[i : i + 1] for k, v in held.items()} for i in range(len(next(iter(held.values()))))]
        for held in (dict(np.load(folder / f"{part}.npz")) for part in ("calibration", "evaluation"))
    )
    kind = folder.name.rpartition("-")[0]
    return Subject(folder.name, folder / "model.onnx", calibration, evaluation, POINTS[kind])


def outputs_of(model: Path, feeds: Sequence[Feed]) -> list[Outputs]:
    session: Session = runtime.session(model, threads=1)
    return [[np.asarray(o) for o in runtime.run(session, feed)] for feed in feeds]


def _db(reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    by_output = []
    for one, other in zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True):
        if np.issubdtype(one[0].dtype, np.floating):
            signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in one)
            noise = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(one, other, strict=True))
            by_output.append(min(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)), ENOUGH_DB))
    return float(np.mean(by_output)) if by_output else ENOUGH_DB


def _worst_db(reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    return min(_db([a], [b]) for a, b in zip(reference, found, strict=True))


def _f1_around(held: Any, session: Session) -> float:
    """Mean F1 of a zoo detector's boxes over thresholds around its own: at one alone a few boxes near it decide."""
    match, middle = sys.modules["zoo"].match, held.task["threshold"]
    lowest = middle + min(AROUND)
    both = [[held.detections(o, lowest) for o in outputs] for outputs in (held.reference(), held.run_all(session))]

    def f1(threshold: float) -> float:
        pairs = [[boxes[boxes[:, 4] > threshold] for boxes in one] for one in zip(*both, strict=True)]
        hit = sum(match(found, given)[0] for given, found in pairs)
        return 2 * hit / max(sum(len(given) + len(found) for given, found in pairs), 1)

    return float(np.mean([f1(middle + d) for d in AROUND]))


# --- points of the kinds ---


def _agreement(reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """Equal classes by the first output."""
    return 100 * float(
        np.mean([(a[0].argmax(-1) == b[0].argmax(-1)).mean() for a, b in zip(reference, found, strict=False)])
    )


def _strings(reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """Equal strings, read greedily (CTC: repeats collapse, 0 is blank)."""

    def read(outputs: Outputs) -> list[int]:
        best = outputs[0][0].argmax(-1)
        return [int(c) for c, before in zip(best, [0, *best[:-1]], strict=False) if c not in (0, before)]

    return 100 * float(np.mean([read(a) == read(b) for a, b in zip(reference, found, strict=False)]))


def _above(threshold: float) -> Callable[[Sequence[Outputs], Sequence[Outputs]], float]:
    """F1 of what lies above a threshold."""

    def score(reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
        pairs = [(a[0] > threshold, b[0] > threshold) for a, b in zip(reference, found, strict=False)]
        hit = sum(int((a & b).sum()) for a, b in pairs)
        return 200 * hit / max(sum(int(a.sum()) + int(b.sum()) for a, b in pairs), 1)

    return score


def _boxes(reference: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """F1 of boxes above a score of 0.4, matched at an overlap of one half."""
    hit = total = 0
    for a, b in zip(reference, found, strict=False):
        one, other = _kept(a[0][0].T), _kept(b[0][0].T)
        total += len(one) + len(other)
        free = np.ones(len(one), bool)
        for box in other:
            overlap = _overlap(box, one) * (one[:, 5] == box[5]) * free if len(one) else np.zeros(0)
            if overlap.size and overlap.max() > 0.5:
                free[int(overlap.argmax())] = False
                hit += 1
    return 200 * hit / max(total, 1)


def _kept(rows: Array) -> Array:
    """Boxes (corners, score, class) after suppression within a class."""
    score, kind = rows[:, 4:].max(1), rows[:, 4:].argmax(1)
    corners = np.c_[rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2, score, kind]
    left = corners[score > 0.4][np.argsort(-score[score > 0.4], kind="stable")]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][~((_overlap(left[0], left[1:]) > 0.45) & (left[1:, 5] == left[0, 5]))]
    return np.array(kept).reshape(-1, 6)


def _overlap(box: Array, others: Array) -> Array:
    inner = np.minimum(box[2:4], others[:, 2:4]) - np.maximum(box[:2], others[:, :2])
    both = np.prod(np.clip(inner, 0, None), axis=1)
    area = np.prod(others[:, 2:4] - others[:, :2], axis=1) + np.prod(box[2:4] - box[:2])
    return np.asarray(both / np.maximum(area - both, 1e-9))


POINTS: Mapping[str, Callable[[Sequence[Outputs], Sequence[Outputs]], float]] = {
    "sequence": _agreement,
    "detector": _boxes,
    "recognizer": _strings,
    "textdetector": _above(0.3),
    "audio": _above(0.5),
    "angle": _agreement,
}
