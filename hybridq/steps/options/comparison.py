"""What may be asked of a comparison: its metric, and on how many samples and how long it measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hybridq.compare import Metric, load_metric
from hybridq.report.pictures import Draw, drawer
from hybridq.steps.options.recurrent import SEQUENCE
from hybridq.steps.options.validation import AnyText, Checked, Number, need_one_place

DRAW = "Draw the outputs on the page's pictures: boxes, boxes:yolov8, classes, mask, or FUNCTION(picture, outputs)."
METRIC = (
    "agreement, boxes:yolov8, ctc:KEYS.txt, equal, iou, psnr, top1:LABELS.txt, or your own figure: "
    "FUNCTION(outputs) -> float, higher is better; "
    "outputs is a list of one dict {output name: array} "
    "per sample, in the order of the dataset."
)


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(Checked):
    """How two models are compared; the same words as ``hybridq step3``. Raises OptionError for what does not fit.

    ``seconds`` are spent on timing; 0: no timing.
    """

    metric: Annotated[str | None, AnyText(METRIC, "NAME|FILE.py:FUNCTION")] = None
    samples: Annotated[int | None, Number("Take only the first so many.", 1, whole=True)] = None
    layer_samples: Annotated[int, Number("Samples measured inside, layer by layer.", 0, whole=True)] = 16
    threads: Annotated[int, Number("Threads of ONNX Runtime; 0: all cores.", 0, whole=True)] = 0
    seconds: Annotated[float, Number("Spent on timing; 0: no timing.", 0)] = 2.0

    sequence: Annotated[int | None, Number(SEQUENCE, 1, whole=True)] = None
    workers: Annotated[int, Number("Processes that run the models.", 1, whole=True)] = 1
    cluster: Annotated[str | None, AnyText("Workers of this Dask scheduler run the models.", "ADDRESS")] = None

    draw: Annotated[str | None, AnyText(DRAW, "HOW|FILE.py:FUNCTION")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        need_one_place(self.workers, self.cluster)

    @property
    def drawer(self) -> Draw | None:
        """What draws."""
        return drawer(self.draw) if self.draw else None

    @property
    def scored(self) -> Metric | None:
        """The metric, read."""
        return load_metric(self.metric) if self.metric else None
