"""Metrics that people use, by name: ``--metric agreement``. One file a metric, one table; see ``docs/metrics.md``."""

from __future__ import annotations

from collections.abc import Callable

from hybridq.compare.named.agreement import agreement
from hybridq.compare.named.boxes import boxes
from hybridq.compare.named.common import Against, Metric, Outputs, against_float
from hybridq.compare.named.ctc import ctc
from hybridq.compare.named.equal import equal
from hybridq.compare.named.iou import iou
from hybridq.compare.named.psnr import psnr
from hybridq.compare.named.top1 import top1
from hybridq.errors import HybridqError

__all__ = ["NAMED", "Against", "Metric", "Outputs", "against_float", "by_name"]

NAMED: dict[str, Callable[[str], Metric]] = {
    "agreement": against_float("agreement", agreement),
    "boxes": boxes,
    "ctc": ctc,
    "equal": against_float("equal", equal),
    "iou": against_float("iou", iou),
    "psnr": against_float("psnr", psnr),
    "top1": top1,
}


def by_name(spec: str) -> Metric | None:
    """The metric that ``NAME`` or ``NAME:FILE`` names; None where it is none of these. Raises HybridqError."""
    name, _, argument = spec.partition(":")
    if name in NAMED:
        return NAMED[name](argument)
    if ":" not in spec and not spec.endswith(".py"):
        raise HybridqError(
            f"'{spec}' does not name a metric",
            hint=f"Choose {', '.join(NAMED)} (top1:LABELS.txt, boxes:LAYOUT, ctc:KEYS.txt), or a FILE.py:FUNCTION.",
        )
    return None
