"""The demo's model and pictures, as files and as arrays.

``digits.npz`` holds, for ``calibration`` and ``evaluation``: ``*_png`` the PNG files one after another (uint8),
``*_ends`` where each ends, ``*_truth`` rows ``picture, x1, y1, x2, y2, class``.
"""

from __future__ import annotations

import io
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Feed: TypeAlias = dict[str, NDArray[np.float32]]
Truth: TypeAlias = NDArray[np.float32]  # (N, 5): x1, y1, x2, y2 in pixels, class

SHAPE = (1, 1, 320, 320)
CHANNELS = 1
MEAN, STD = 127.5, 64.0
CLASSES = 10
INPUT, OUTPUT = "image", "detections"

FOLDER = Path(__file__).parent


def model_path() -> Path:
    """The float32 ONNX model that the three steps are shown on: small, and slow in 8 bits on a CPU."""
    return FOLDER / "model.onnx"


def plain_path() -> Path:
    """A larger one for the same pictures, of plain 3x3 convolutions: what 8 bits are fast at."""
    return FOLDER / "plain.onnx"


def calibration() -> list[tuple[Feed, Truth]]:
    """64 pictures and their digits; no scan of them is in training or evaluation."""
    return _pairs("calibration")


def evaluation() -> list[tuple[Feed, Truth]]:
    """160 pictures and their digits, made of scans that neither training nor calibration has seen."""
    return _pairs("evaluation")


def truths(name: str) -> list[Truth]:
    """What the pictures of a set show, one array a picture."""
    rows = _archive()[f"{name}_truth"].astype(np.float32)
    return [rows[rows[:, 0] == i, 1:] for i in range(len(_archive()[f"{name}_ends"]))]


def write_dataset(folder: Path) -> tuple[Path, Path]:
    """Write the pictures as PNG files and list them in ``calibration.txt`` and ``evaluation.txt``.

    The lists are in the form of ``dataset.txt``, their paths relative to themselves. Same bytes every time.
    """
    lists = []
    for name in ("calibration", "evaluation"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        files = _pngs(name)
        for i, data in enumerate(files):
            (folder / name / f"{i:03}.png").write_bytes(data)
        path = folder / f"{name}.txt"
        path.write_bytes("".join(f"{name}/{i:03}.png\n" for i in range(len(files))).encode())
        lists.append(path)
    return lists[0], lists[1]


@cache
def _archive() -> dict[str, NDArray[np.generic]]:
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as archive:
        return dict(archive)


def _pngs(name: str) -> list[bytes]:
    archive = _archive()
    data, ends = archive[f"{name}_png"].tobytes(), [0, *archive[f"{name}_ends"].tolist()]
    return [data[start:end] for start, end in pairwise(ends)]


def _pairs(name: str) -> list[tuple[Feed, Truth]]:
    feeds = [{INPUT: _pixels(data)} for data in _pngs(name)]
    return list(zip(feeds, truths(name), strict=True))


def _pixels(data: bytes) -> NDArray[np.float32]:
    grey = np.asarray(Image.open(io.BytesIO(data)), np.float32)
    return ((grey - np.float32(MEAN)) / np.float32(STD)).reshape(SHAPE)
