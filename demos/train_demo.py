"""Train the detector that ``hybridq demo`` quantizes, and build its pictures. Takes minutes on one CPU thread.

The data are real: scikit-learn's handwritten digits (1797 scans of 8x8 pixels, in the order their writers came).
They are enlarged and pasted, several at a time, on cluttered canvases. Training, calibration and evaluation use scans
of their own, so the scores are those of digits and of writers the network never saw.

The network is an ordinary small detector: depthwise-separable convolutions, squeeze-and-excite, HardSwish and SiLU,
and a decode in which one tensor holds box positions in pixels and class scores in 0..1, as exported YOLO models do.
Its weights are what training left, nothing is altered afterwards.

Run from the repository root, with the extra ``train`` installed::

    python demos/train_demo.py
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader expects

from hybridq.demo import CLASSES, MEAN, SHAPE, STD, detections, f1, mean_ap50
from hybridq.demo.data import INPUT, OUTPUT

SIDE = SHAPE[-1]
STRIDE = 16
CELLS = SIDE // STRIDE
REACH = 80.0  # a box's centre lies within half of this around its cell's centre, in pixels
LARGEST = 192.0  # the longest side of a box, in pixels
OUT = Path(__file__).parents[1] / "hybridq" / "demo"
TRAIN, CALIBRATION, EVALUATION = range(1000), range(1000, 1200), range(1200, 1797)
PICTURES = {"calibration": (CALIBRATION, 64, 1), "evaluation": (EVALUATION, 160, 2)}  # scans, pictures, seed


# --- pictures ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scans:
    """Scans of digits, (N, 8, 8) in 0..1, and what they show, (N,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def load(cls, which: range) -> Scans:
        """The scans with these indices."""
        digits = load_digits()
        return cls((digits.images[which] / 16).astype(np.float32), digits.target[which].astype(np.int64))


def background(rng: np.random.Generator) -> NDArray[np.float32]:
    """A smoothly lit surface, (SIDE, SIDE), with lines, bars and ellipses drawn on it."""
    coarse = Image.fromarray(rng.uniform(40, 215, (3, 3)).astype(np.float32))
    surface = coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(surface)
    for _ in range(rng.integers(0, 7)):
        x, y = rng.uniform(0, SIDE, 2)
        w, h = rng.uniform(12, 140, 2) * rng.choice([-1, 1], 2)
        box = [min(x, x + w), min(y, y + h), max(x, x + w), max(y, y + h)]
        shade, width = float(rng.uniform(20, 235)), int(rng.integers(2, 11))
        shape = rng.integers(4)
        if shape == 0:
            draw.line([x, y, x + w, y + h], fill=shade, width=width)
        elif shape == 1:
            draw.ellipse(box, outline=shade, width=width)
        elif shape == 2:
            draw.arc(box, *sorted(rng.uniform(0, 360, 2)), fill=shade, width=width)
        else:
            draw.rectangle(box, fill=shade)
    return np.asarray(surface).copy()


def scrambled(scan: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Ink like a digit's that is none: the scan's 2x2 blocks in another order."""
    blocks = scan.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 2, 2)
    return rng.permutation(blocks).reshape(4, 4, 2, 2).transpose(0, 2, 1, 3).reshape(8, 8)


def ink_box(scan: NDArray[np.float32]) -> NDArray[np.float32]:
    """The box around the ink, ``(x1, y1, x2, y2)`` as fractions of the scan."""
    rows, columns = (np.flatnonzero((scan > 0.2).any(axis=a)) for a in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32) / 8


def compose(scans: Scans, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One picture, (SIDE, SIDE), and its digits, (N, 5): ``x1, y1, x2, y2`` in pixels and the class.

    Grey levels are multiples of 8, which makes the files small.
    """
    canvas = background(rng)
    taken: list[tuple[float, float, float, float]] = []
    truth: list[list[float]] = []
    for i in rng.integers(len(scans.labels), size=rng.integers(4, 14)):
        h = rng.uniform(40, 144)
        w = h * rng.uniform(0.75, 1.2)
        x, y = rng.integers(0, [SIDE - int(w), SIDE - int(h)])
        if any(x < c and a < x + w and y < d and b < y + h for a, b, c, d in taken):
            continue
        taken.append((x, y, x + w, y + h))
        distractor = rng.random() < 0.2
        scan = scrambled(scans.images[i], rng) if distractor else scans.images[i]
        ink = np.asarray(Image.fromarray(scan).resize((int(w), int(h)), Image.Resampling.BICUBIC)).clip(0, 1)
        patch = canvas[y : y + int(h), x : x + int(w)]
        sign = 1 if patch.mean() < rng.uniform(90, 165) else -1
        patch += sign * rng.uniform(45, 120) * ink
        if not distractor:
            box = ink_box(scan) * [int(w), int(h), int(w), int(h)] + [x, y, x, y]
            truth.append([*box, float(scans.labels[i])])
    return canvas.clip(0, 255).astype(np.uint8) & 0xF8, np.array(truth, np.float32).reshape(-1, 5)


def png(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def write_pictures(path: Path) -> None:
    """Write the calibration and evaluation pictures and their truth into one file.

    Per set: ``*_png`` the PNG files one after another, ``*_ends`` where each ends, ``*_truth`` (M, 6) rows
    ``picture, x1, y1, x2, y2, class``.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, (which, count, seed) in PICTURES.items():
        rng, scans = np.random.default_rng(seed), Scans.load(which)
        pairs = [compose(scans, rng) for _ in range(count)]
        files = [png(picture) for picture, _ in pairs]
        arrays[f"{name}_png"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(f) for f in files]).astype(np.int32)
        rows = [np.column_stack([np.full(len(t), i, np.float32), t]) for i, (_, t) in enumerate(pairs)]
        arrays[f"{name}_truth"] = np.concatenate(rows).astype(np.float32)
    np.savez(path, **arrays)


# --- network ----------------------------------------------------------------------------------------------------


def conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and BatchNorm; the exporter folds the latter."""
    return [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]


class SqueezeExcite(nn.Module):
    """Weigh the channels by what the whole picture shows (Hu et al. 2018, with MobileNetV3's HardSigmoid)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x * gate``, the gate (N, C, 1, 1) in 0..1."""
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))


class Block(nn.Module):
    """Inverted residual: widen 1x1, depthwise 3x3, squeeze-and-excite, narrow 1x1 (MobileNetV3)."""

    def __init__(self, cin: int, wide: int, cout: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.widen = nn.Sequential(*conv(cin, wide, 1), act())
        self.depthwise = nn.Sequential(*conv(wide, wide, 3, stride, wide), act())
        self.excite = SqueezeExcite(wide)
        self.narrow = nn.Sequential(*conv(wide, cout, 1))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) to (N, cout, H / stride, W / stride)."""
        y = self.narrow(self.excite(self.depthwise(self.widen(x))))
        return x + y if self.residual else y


class Decode(nn.Module):
    """Raw maps to boxes and scores in one tensor: ``sigmoid(raw) * span + origin``, each row with its own constants.

    Rows ``cx, cy`` span REACH pixels around their cell's centre, ``w, h`` span LARGEST pixels, scores span 1.
    """

    def __init__(self) -> None:
        super().__init__()
        spans = torch.tensor([REACH, REACH, LARGEST, LARGEST] + [1.0] * CLASSES)
        centres = (torch.arange(CELLS) + 0.5) * STRIDE - REACH / 2
        origin = torch.zeros(1, 4 + CLASSES, CELLS, CELLS)
        origin[0, 0], origin[0, 1] = centres[None, :], centres[:, None]
        self.register_buffer("span", spans.reshape(1, -1, 1), persistent=False)
        self.register_buffer("origin", origin.flatten(2), persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        """(N, 4 + CLASSES, CELLS, CELLS) to (N, 4 + CLASSES, CELLS^2): centre, size, scores of every cell."""
        return torch.sigmoid(raw).reshape(-1, 4 + CLASSES, CELLS * CELLS) * self.span + self.origin


class Residual(nn.Module):
    """Two 3x3 convolutions beside a way around them (He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(channels, channels, 3), nn.ReLU(), *conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``."""
        return F.relu(x + self.body(x))


class Detector(nn.Module):
    """Grey picture (N, 1, SIDE, SIDE) to (N, 4 + CLASSES, cells); ``neck`` gives (N, 96, CELLS, CELLS)."""

    def __init__(self, stem: nn.Module, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.stem, self.backbone, self.neck = stem, backbone, neck
        self.head = nn.Conv2d(96, 4 + CLASSES, 1)
        nn.init.constant_(self.head.bias[4:], -4.6)  # a cell shows a given digit with a chance of 1 % (RetinaNet)
        self.decode = Decode()

    def forward(self, image: Tensor) -> Tensor:
        """All boxes and scores."""
        return self.decode(self.head(self.neck(self.backbone(self.stem(image)))))


def small() -> Detector:
    """84 thousand weights, most in depthwise and 1x1 convolutions: few MACs, and 8 bits are slow on a CPU."""
    hs, silu = nn.Hardswish, nn.SiLU
    backbone = (
        Block(16, 64, 32, 2, hs),
        Block(32, 72, 32, 1, hs),
        Block(32, 96, 56, 2, silu),
        Block(56, 128, 56, 1, silu),
        Block(56, 128, 56, 1, silu),
    )
    neck = (*conv(56, 56, 3, groups=56), *conv(56, 96, 1), silu())
    return Detector(nn.Sequential(*conv(1, 16, 5, 4), hs()), nn.Sequential(*backbone), nn.Sequential(*neck))


def plain() -> Detector:
    """400 thousand weights in plain 3x3 convolutions with ReLU: what 8 bits are fast at."""
    relu = nn.ReLU
    down = (*conv(1, 32, 5, 4), relu()), (*conv(32, 64, 3, 2), relu()), (*conv(64, 96, 3, 2), relu())
    backbone = (*down[1], Residual(64), *down[2], Residual(96))
    neck = (*conv(96, 96, 3), relu())
    return Detector(nn.Sequential(*down[0]), nn.Sequential(*backbone), nn.Sequential(*neck))


NETWORKS = {"model": small, "plain": plain}  # by the name of the file


# --- training ---------------------------------------------------------------------------------------------------


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU (Rezatofighi et al. 2019) of boxes ``cx, cy, w, h``, row by row, (N, 4) each."""
    (a1, a2), (b1, b2) = ((x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2) for x in (a, b))
    inter = (torch.minimum(a2, b2) - torch.maximum(a1, b1)).clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - inter
    hull = (torch.maximum(a2, b2) - torch.minimum(a1, b1)).prod(1)
    iou = inter / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def positives(truth: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells that answer for a digit, and which digit: those whose centre lies in its middle half (FCOS)."""
    centres = (np.arange(CELLS) + 0.5) * STRIDE
    middle, size = (truth[:, :2] + truth[:, 2:4]) / 2, truth[:, 2:4] - truth[:, :2]
    radius = np.maximum(size / 4, STRIDE / 2)
    inside = np.abs(centres[None, :, None] - middle[:, None]) <= radius[:, None]  # digit, cell along an axis, axis
    digit, row, column = np.nonzero(inside[:, :, None, 1] & inside[:, None, :, 0])
    return row * CELLS + column, digit


def loss(out: Tensor, truths: list[NDArray[np.float32]]) -> Tensor:
    """Quality focal loss on the scores (Li et al. 2020: the target is the box's IoU) plus GIoU loss on the boxes."""
    out = out.transpose(1, 2)
    scores, wanted = out[..., 4:].clamp(1e-6, 1 - 1e-6), torch.zeros_like(out[..., 4:])
    found, boxes, where = [], [], []
    for i, truth in enumerate(truths):
        cell, digit = positives(truth)
        t = torch.from_numpy(truth[digit])
        found.append(out[i, torch.from_numpy(cell), :4])
        boxes.append(torch.cat([(t[:, :2] + t[:, 2:4]) / 2, t[:, 2:4] - t[:, :2]], 1))
        where.append(torch.stack([torch.full((len(cell),), i), torch.from_numpy(cell), t[:, 4].long()], 1))
    iou, generalized = giou(torch.cat(found), torch.cat(boxes))
    picture, cell, label = torch.cat(where).unbind(1)
    wanted[picture, cell, label] = iou.detach()
    quality = (wanted - scores).abs() ** 2 * F.binary_cross_entropy(scores, wanted, reduction="none")
    return (quality.sum() + 2 * (1 - generalized).sum()) / max(1, len(iou))


def normalized(pictures: list[NDArray[np.uint8]]) -> Tensor:
    """Pictures as the network takes them, (N, 1, SIDE, SIDE)."""
    return torch.from_numpy((np.stack(pictures)[:, None].astype(np.float32) - MEAN) / STD)


def train(network: Callable[[], Detector], steps: int, batch: int, seed: int) -> Detector:
    """Train on pictures composed on the fly from the training scans."""
    torch.manual_seed(seed)
    rng, scans = np.random.default_rng(seed), Scans.load(TRAIN)
    model = network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.15)
    start, mean = time.perf_counter(), math.nan
    for step in range(1, steps + 1):
        pictures, truths = zip(*(compose(scans, rng) for _ in range(batch)), strict=True)
        value = loss(model(normalized(list(pictures)).contiguous(memory_format=torch.channels_last)), list(truths))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        mean = value.item() if math.isnan(mean) else 0.98 * mean + 0.02 * value.item()
        if step % 50 == 0:
            print(f"step {step:5} loss {mean:.4f} {time.perf_counter() - start:6.1f} s", flush=True)
    return model.eval()


def validate(model: Detector) -> None:
    """Print the scores on fresh pictures made of the calibration scans."""
    rng, scans = np.random.default_rng(99), Scans.load(CALIBRATION)
    pairs = [compose(scans, rng) for _ in range(200)]
    with torch.no_grad():
        found = [detections({OUTPUT: model(normalized([p])).numpy()}) for p, _ in pairs]
    truths = [t for _, t in pairs]
    print(f"fresh pictures of calibration scans: AP50 {mean_ap50(found, truths):.3f}", end="")
    print("".join(f", F1 at {t} {f1(found, truths, t):.3f}" for t in (0.3, 0.4, 0.5, 0.6)))


def export(model: Detector, path: Path) -> None:
    """Write the network as ONNX, opset 18, batch 1."""
    example = torch.zeros(SHAPE)
    model = model.to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        model, (example,), path, opset_version=18, dynamo=False, input_names=[INPUT], output_names=[OUTPUT]
    )
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)


def main() -> None:
    """Write ``digits.npz``, train, validate, write ``model.onnx``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for digits.npz and model.onnx")
    parser.add_argument("--network", choices=NETWORKS, default="model", help="which, and the name of its file")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    write_pictures(options.out / "digits.npz")
    model = train(NETWORKS[options.network], options.steps, options.batch, options.seed)
    validate(model)
    export(model, options.out / f"{options.network}.onnx")


if __name__ == "__main__":
    main()
