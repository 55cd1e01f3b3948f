"""``boxes:yolov5 | yolov8 | ssd``: how many of float's boxes are found again, or mAP where there are labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.named.common import Against, Array, Metric, Outputs
from hybridq.errors import HybridqError
from hybridq.files.reading import look_at

SCORE = 0.25  # from which on a box counts for F1 and is drawn
FAINT = 0.01  # from which on it counts for mAP
SAME = 0.5  # IoU above which two boxes are the same
UNLIKELY = 4  # times more classes than boxes: the axes are rather the other way round
NO_SCORE = 2.0  # more than rounding makes of a score, less than a box in pixels
MOST = 300  # boxes of a sample
HINT = "Give boxes:yolov5, boxes:yolov8 or boxes:ssd, with :LABELS.txt behind it for mAP."

Boxes = NDArray[np.float64]  # (count, 6): x1 y1 x2 y2 score class, the best first
Decode = Callable[[Outputs], tuple[Array, Array]]  # corners (count, 4), scores (count, classes)


def yolov5(outputs: Outputs) -> tuple[Array, Array]:
    """``(1, count, 5 + classes)``: centre x, y, width, height, objectness, classes; a score is the product of the last.

    Of a model that was cut before its last Concat: its parts, of which one has the four columns of the boxes.
    """
    rows = _rows(outputs, 2, 6, "yolov8")
    return _corners(rows[:, :4]), rows[:, 4:5] * rows[:, 5:]


def yolov8(outputs: Outputs) -> tuple[Array, Array]:
    """``(1, 4 + classes, count)``: centre x, y, width, height, classes; or parts of it, as ``yolov5`` takes them."""
    rows = _rows(outputs, 1, 5, "yolov5")
    return _corners(rows[:, :4]), rows[:, 4:]


def ssd(outputs: Outputs) -> tuple[Array, Array]:
    """Corners ``(1, count, 4)`` and scores ``(1, count, classes)``, whose class 0 is the background."""
    corners = _rank3(outputs, lambda s: s[2] == 4)[0]
    scores = _rank3(outputs, lambda s: s[2] != 4 and s[1] == len(corners))[0]
    return corners, scores[:, 1:] if scores.shape[1] > 1 else scores


DECODERS: dict[str, Decode] = {"yolov5": yolov5, "yolov8": yolov8, "ssd": ssd}


def found_boxes(decode: Decode, outputs: Outputs, least: float = SCORE) -> Boxes:
    """Boxes with a score of ``least`` or more, after suppression within a class at IoU ``SAME``."""
    corners, scores = (x.astype(np.float64) for x in decode(outputs))
    kinds = scores.argmax(1)
    best = scores[np.arange(len(scores)), kinds]
    rows = np.column_stack([corners, best, kinds])[np.nan_to_num(best, nan=0.0) >= least]
    return _suppressed(rows[np.argsort(-rows[:, 4], kind="stable")][: 4 * MOST])[:MOST]


def f1(decode: Decode, reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    """``2 * matched / (float's boxes + this model's)``, one to one, same class, IoU above ``SAME``; 1 without any."""
    matched = total = 0
    for a, b in zip(reference, outputs, strict=True):
        _need_scores(decode, a)
        one, other = found_boxes(decode, a), found_boxes(decode, b)
        matched += int((_matches(other, one) >= 0).sum())
        total += len(one) + len(other)
    return 2 * matched / total if total else 1.0


def _need_scores(decode: Decode, outputs: Outputs) -> None:
    """Refuse float's outputs where what is read as scores cannot be such: another layout, or logits."""
    most = float(np.nan_to_num(decode(outputs)[1]).max(initial=0.0))
    if most > NO_SCORE:
        layouts = " or ".join(f"boxes:{n}" for n, d in DECODERS.items() if d is not decode)
        hint = f"A score is 0 to 1: try {layouts}, or end the model behind its Sigmoid."
        raise HybridqError(f"what is read as scores reaches {most:.4g} in the float model", hint=hint)


@dataclass(frozen=True)
class MeanAveragePrecision:
    """mAP at IoU .5: the mean over the labels' classes of the area under precision over recall, 0 to 1."""

    decode: Decode
    truths: tuple[Boxes, ...]
    digest: str
    name: str = "boxes"

    def __call__(self, outputs: list[Outputs]) -> float:
        """The score of a model. Raises HybridqError where there is not a line of labels a sample."""
        if len(outputs) != len(self.truths):
            raise HybridqError(f"{len(self.truths)} lines of labels for {len(outputs)} samples", hint=HINT)
        found = [found_boxes(self.decode, one, FAINT) for one in outputs]
        kinds = np.unique(np.concatenate([t[:, 5] for t in self.truths]))
        areas = [_area([_of(f, k) for f in found], [_of(t, k) for t in self.truths]) for k in kinds]
        return float(np.mean(areas)) if areas else 1.0


def boxes(argument: str) -> Metric:
    """The metric of ``LAYOUT`` or ``LAYOUT:LABELS.txt``. Raises HybridqError."""
    layout, _, labels = argument.partition(":")
    if layout not in DECODERS:
        raise HybridqError(f"'{layout}' is no layout of boxes", hint=HINT)
    decode = DECODERS[layout]
    if not labels:
        return Against("boxes", lambda reference, outputs: f1(decode, reference, outputs))
    path = Path(labels)
    look_at(path, HybridqError, hint=HINT)
    data = path.read_bytes()
    lines = data.decode(errors="replace").removesuffix("\n").split("\n")
    return MeanAveragePrecision(decode, tuple(_truth(t, path, i) for i, t in enumerate(lines, 1)), _digest(data))


def layout_of(outputs: Outputs) -> Decode | None:
    """The layout that a model's outputs have, by their shapes; None where they have none of these."""
    shapes = [x.shape for x in outputs.values() if x.ndim == 3]
    if len(shapes) == 2 and any(s[2] == 4 for s in shapes) and shapes[0][1] == shapes[1][1]:
        return ssd
    long = [s for s in shapes if min(s[1:]) >= 5]
    if not long:
        return None
    return yolov8 if long[0][1] < long[0][2] else yolov5


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _truth(text: str, path: Path, line: int) -> Boxes:
    """A line of labels: ``class x1 y1 x2 y2`` for each box."""
    try:
        rows = np.array(text.split(), np.float64).reshape(-1, 5)
    except ValueError:
        hint = "Each line is a sample: class x1 y1 x2 y2 of each box, in the units of the model's boxes."
        raise HybridqError("not five numbers a box", path=str(path), line=line, hint=hint) from None
    return np.column_stack([rows[:, 1:], np.ones(len(rows)), rows[:, 0]])


def _rank3(outputs: Outputs, fits: Callable[[tuple[int, ...]], bool]) -> Array:
    for values in outputs.values():
        if values.ndim == 3 and len(values) == 1 and fits(values.shape):
            return values
    shapes = ", ".join(str(list(x.shape)) for x in outputs.values())
    raise HybridqError(f"no output has this layout of boxes, only {shapes}", hint=HINT)


def _rows(outputs: Outputs, axis: int, least: int, other: str) -> Array:
    """A row of at least so many columns a box; ``axis`` has the columns, ``other`` is the layout that has boxes there.

    Raises HybridqError where no output is such, or where it rather is of the other layout.
    """
    held = [x[0] if axis == 2 else x[0].T for x in outputs.values() if x.ndim == 3 and len(x) == 1]
    joined = next(filter(None, (_joined(held, len(boxes)) for boxes in held if boxes.shape[1] == 4)), None)
    if joined is not None:
        return np.concatenate(joined, axis=1)
    rows = _rank3(outputs, lambda s: s[axis] >= least)[0]
    rows = rows if axis == 2 else rows.T
    count, columns = rows.shape
    if count >= 5 and columns >= UNLIKELY * count:
        shape = [1, *(rows.shape if axis == 2 else rows.T.shape)]
        told = f"{shape} would be {columns - least + 1} classes of {count} boxes"
        raise HybridqError(told, hint=f"Give boxes:{other}, which reads {columns} boxes of {count} numbers.")
    return np.asarray(rows)


def _joined(held: Sequence[Array], count: int) -> list[Array] | None:
    """Parts of as many boxes, their corners first; None where there is nothing but corners, or corners twice."""
    parts = [x for x in held if len(x) == count]
    corners = [x for x in parts if x.shape[1] == 4]
    others = [x for x in parts if x.shape[1] != 4]
    return [*corners, *others] if len(corners) == 1 and others else None


def _corners(centred: Array) -> Array:
    half = centred[:, 2:] / 2
    return np.concatenate([centred[:, :2] - half, centred[:, :2] + half], axis=1)


def _overlap(one: Array, others: Array) -> Boxes:
    """IoU of a box with others."""
    ends = np.minimum(one[2:4], others[:, 2:4]) - np.maximum(one[:2], others[:, :2])
    both = ends.clip(0).prod(1)
    sizes = [(x[..., 2:4] - x[..., :2]).clip(0).prod(-1) for x in (one, others)]
    return np.asarray(both / np.maximum(sizes[0] + sizes[1] - both, 1e-12))


def _suppressed(rows: Boxes) -> Boxes:
    kept: list[int] = []
    left = np.arange(len(rows))
    while len(left):
        first, rest = left[0], left[1:]
        kept.append(int(first))
        again = (_overlap(rows[first], rows[rest]) > SAME) & (rows[rest, 5] == rows[first, 5])
        left = rest[~again]
    return rows[kept]


def _matches(found: Boxes, truth: Boxes) -> NDArray[np.int64]:
    """For every found box the number of the truth it is matched with, greedily by score, or -1."""
    free = np.ones(len(truth), bool)
    result = np.full(len(found), -1)
    for i, one in enumerate(found):
        overlap = np.where(free & (truth[:, 5] == one[5]), _overlap(one, truth), 0.0)
        if len(truth) and overlap.max() > SAME:
            result[i] = int(overlap.argmax())
            free[result[i]] = False
    return result


def _of(rows: Boxes, kind: float) -> Boxes:
    return np.asarray(rows[rows[:, 5] == kind])


def _area(found: Iterable[Boxes], truths: Sequence[Boxes]) -> float:
    """The area under the curve of precision, made non-increasing, over recall, all samples together."""
    scores, hits = [], []
    for rows, truth in zip(found, truths, strict=True):
        scores.append(rows[:, 4])
        hits.append(_matches(rows, truth) >= 0)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right = np.concatenate(hits)[order].cumsum()
    count = sum(map(len, truths))
    if not len(right):
        return 0.0
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    return float((np.diff(right / count, prepend=0.0) * precision).sum())
