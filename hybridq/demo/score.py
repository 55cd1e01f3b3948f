"""How well the demo's detector does: boxes out of its output tensor, average precision, F1. Pure NumPy.

For the command line: ``hybridq step3 DIR --dataset evaluation.txt --metric .../hybridq/demo/score.py:metric``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hybridq.demo.data import CLASSES, OUTPUT, Truth, truths

Outputs: TypeAlias = Mapping[str, NDArray[np.float32]]
Detections: TypeAlias = NDArray[np.float32]  # (N, 6): x1, y1, x2, y2 in pixels, class, score; best first

FLOOR = 0.05  # candidates below take no part at all
THRESHOLD = 0.5  # what counts as found for F1; chosen on pictures made of calibration scans
OVERLAP = 0.5  # IoU of a match (AP50), and of two boxes on one digit (non-maximum suppression)


def detections(outputs: Outputs) -> Detections:
    """Decode one picture's output (1, 4 + CLASSES, cells) and keep the best of overlapping boxes of one class."""
    rows = np.asarray(outputs[OUTPUT], np.float32)[0].T
    cell, label = np.nonzero(rows[:, 4:] > FLOOR)
    score = rows[cell, 4 + label]
    centre, size = rows[cell, :2], np.maximum(rows[cell, 2:4], 0)
    boxes = np.column_stack([centre - size / 2, centre + size / 2, label, score]).astype(np.float32)
    boxes = boxes[np.argsort(-score, kind="stable")]
    keep: list[int] = []
    overlaps = iou(boxes, boxes)
    for i in range(len(boxes)):
        same = [k for k in keep if boxes[k, 4] == boxes[i, 4]]
        if not (overlaps[i, same] > OVERLAP).any():
            keep.append(i)
    return boxes[keep]


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of boxes ``x1, y1, x2, y2, ...``: (N, >=4) and (M, >=4) give (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    inter = np.maximum(high - low, 0).prod(axis=2)
    areas = [(x[:, 2:4] - x[:, :2]).prod(axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - inter
    return np.asarray(inter / np.maximum(union, np.float32(1e-9)), np.float32)


def mean_ap50(found: Sequence[Detections], wanted: Sequence[Truth]) -> float:
    """Mean over the classes of the area under the interpolated precision-recall curve (Pascal VOC 2010), IoU 0.5.

    Detections of equal score keep the order of their pictures and, within a picture, of their cells.
    """
    return float(np.mean([_average_precision(found, wanted, c) for c in range(CLASSES)]))


def f1(found: Sequence[Detections], wanted: Sequence[Truth], threshold: float = THRESHOLD) -> float:
    """``2 hits / (detections + digits)`` over all pictures, class and IoU 0.5 agreeing, scores from ``threshold``."""
    hits = total = 0
    for boxes, truth in zip(found, wanted, strict=True):
        sure = boxes[boxes[:, 5] >= threshold]
        total += len(sure) + len(truth)
        hits += sum(int(_hits(sure[sure[:, 4] == c], truth[truth[:, 4] == c]).sum()) for c in range(CLASSES))
    return 2 * hits / total if total else 1.0


def f1_vs_float(outputs: Sequence[Outputs], reference: Sequence[Outputs]) -> float:
    """F1 with the float model's own detections as truth: 1 where quantization changed no answer."""
    answers = [detections(o) for o in reference]
    return f1([detections(o) for o in outputs], [a[a[:, 5] >= THRESHOLD, :5] for a in answers])


def score(outputs: Sequence[Outputs], reference: Sequence[Outputs] | None = None) -> dict[str, float]:
    """``ap50`` and ``f1`` against the truth, and ``f1_vs_float`` where the float model's outputs are given.

    Parameters
    ----------
    outputs
        One mapping a picture, in the order of ``evaluation.txt`` (or of ``calibration.txt``).
    reference
        The float model's outputs on the same pictures.

    Raises
    ------
    ValueError
        When there are as many outputs as in neither set.
    """
    wanted = _truths_of(len(outputs))
    found = [detections(o) for o in outputs]
    result = {"ap50": mean_ap50(found, wanted), "f1": f1(found, wanted)}
    return result if reference is None else result | {"f1_vs_float": f1_vs_float(outputs, reference)}


def metric(outputs: list[dict[str, NDArray[np.float32]]]) -> float:
    """AP50 for ``--metric``: higher is better."""
    return score(outputs)["ap50"]


def _truths_of(count: int) -> list[Truth]:
    sets = {len(t): t for t in (truths("evaluation"), truths("calibration"))}
    if count not in sets:
        raise ValueError(f"{count} outputs; the demo's sets have {' and '.join(map(str, sets))} pictures")
    return sets[count]


def _hits(boxes: Detections, truth: Truth) -> NDArray[np.bool_]:
    """Which boxes, best first, find a digit that none before found: (N,)."""
    overlaps, free = iou(boxes, truth), np.ones(len(truth), bool)
    hits = np.zeros(len(boxes), bool)
    for i, row in enumerate(overlaps):
        candidates = np.where(free, row, 0)
        if candidates.size and candidates.max() >= OVERLAP:
            hits[i], free[candidates.argmax()] = True, False
    return hits


def _average_precision(found: Sequence[Detections], wanted: Sequence[Truth], label: int) -> float:
    mine = [boxes[boxes[:, 4] == label] for boxes in found]
    theirs = [truth[truth[:, 4] == label] for truth in wanted]
    hits = np.concatenate([_hits(b, t) for b, t in zip(mine, theirs, strict=True)])
    order = np.argsort(-np.concatenate([b[:, 5] for b in mine]), kind="stable")
    true = np.cumsum(hits[order])
    recall = true / max(1, sum(map(len, theirs)))
    precision = true / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))
