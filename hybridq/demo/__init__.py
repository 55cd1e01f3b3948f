"""The bundled demo: a small digit detector and real pictures, held-out ones among them. Needs no download.

The model was trained by ``demos/train_demo.py`` on scikit-learn's handwritten digits; see ``demos/README.md`` for the
figures. Its input ``image`` is a grey picture, its output ``detections`` holds box positions in pixels *and* class
scores in 0..1, which is what 8 bits per tensor cannot do.
"""

from hybridq.demo.data import (
    CHANNELS,
    CLASSES,
    MEAN,
    SHAPE,
    STD,
    Feed,
    Truth,
    calibration,
    evaluation,
    model_path,
    plain_path,
    write_dataset,
)
from hybridq.demo.score import THRESHOLD, Detections, detections, f1, f1_vs_float, mean_ap50, metric, score

__all__ = [
    "CHANNELS",
    "CLASSES",
    "MEAN",
    "SHAPE",
    "STD",
    "THRESHOLD",
    "Detections",
    "Feed",
    "Truth",
    "calibration",
    "detections",
    "evaluation",
    "f1",
    "f1_vs_float",
    "mean_ap50",
    "metric",
    "model_path",
    "plain_path",
    "score",
    "write_dataset",
]
