"""Synthetic data for ``train_kinds.py``: pictures, tokens and sounds with known answers. NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rng = np.random.Generator
GLYPHS = np.random.default_rng(99).random((12, 7, 5)) < 0.5  # the strokes of twelve symbols
TOPICS = np.stack([np.random.default_rng(i).permutation(48)[:10] for i in range(12)])  # words of each
LENGTH = 32  # tokens
SIDE = 96  # pixels of a picture
RATE = 8000  # samples of a second


@dataclass(frozen=True)
class Batch:
    """Inputs, samples first, and what is true of them."""

    x: Array
    truth: dict[str, Array] = field(default_factory=dict)


def tokens(rng: Rng, count: int) -> Batch:
    """Sequences of twelve topics: each word comes from its topic's own words or, half the time, from all."""
    topic = rng.integers(0, 12, count)
    own = TOPICS[topic][np.arange(count)[:, None], rng.integers(0, TOPICS.shape[1], (count, LENGTH))]
    ids = np.where(rng.random((count, LENGTH)) < 0.4, own, rng.integers(0, 48, (count, LENGTH)))
    return Batch(ids.astype(np.int64), {"label": topic})


def _background(rng: Rng, side: int) -> Array:
    """A gradient with a few smooth bumps and noise, 3 channels of 0..1."""
    y, x = np.mgrid[:side, :side] / side
    found = np.empty((3, side, side))
    for channel in found:
        a, b, c = rng.normal(0, 0.3, 3)
        channel[:] = (
            0.4 + a * (x - 0.5) + b * (y - 0.5) + c * np.sin(rng.uniform(3, 20) * x + rng.uniform(3, 20) * y) / 3
        )
    return found + rng.normal(0, rng.uniform(0.01, 0.06), found.shape)


def _shape(kind: int, side: int, cx: float, cy: float, w: float, h: float) -> Array:
    y, x = np.mgrid[:side, :side] + 0.5
    u, v = (x - cx) / (w / 2), (y - cy) / (h / 2)
    if kind == 0:
        return (np.abs(u) < 1) & (np.abs(v) < 1)
    if kind == 1:
        return u**2 + v**2 < 1
    return ((np.abs(u) < 0.3) & (np.abs(v) < 1)) | ((np.abs(v) < 0.3) & (np.abs(u) < 1))


def objects(rng: Rng, count: int) -> Batch:
    """One to four boxes, discs and crosses a picture of 0..1; small ones belong to stride 8, large ones to 16."""
    x = np.stack([_background(rng, SIDE) for _ in range(count)])
    truth = {}
    for stride in (8, 16):
        cells = SIDE // stride
        truth[f"scores_{stride}"] = np.zeros((count, 3, cells, cells), np.float32)
        truth[f"boxes_{stride}"] = np.zeros((count, 4, cells, cells), np.float32)
    for i in range(count):
        for _ in range(rng.integers(1, 5)):
            w, h = np.exp(rng.uniform(np.log(10), np.log(60), 2))
            cx, cy = rng.uniform(w / 2, SIDE - w / 2), rng.uniform(h / 2, SIDE - h / 2)
            kind = int(rng.integers(3))
            x[i, :, _shape(kind, SIDE, cx, cy, w, h)] = rng.uniform(0, 1, 3)
            stride = 8 if max(w, h) < 28 else 16
            column, row = int(cx / stride), int(cy / stride)
            truth[f"scores_{stride}"][i, :, row, column] = np.eye(3)[kind]
            own = np.array([column + 0.5 - (cx - w / 2) / stride, row + 0.5 - (cy - h / 2) / stride,
                            (cx + w / 2) / stride - column - 0.5, (cy + h / 2) / stride - row - 0.5])  # fmt: skip
            truth[f"boxes_{stride}"][i, :, row, column] = np.maximum(own, 0)
    return Batch(np.clip(x, 0, 1).astype(np.float32), truth)


def _stretched(glyph: Array, height: int, width: int) -> Array:
    rows, columns = np.arange(height) * 7 // height, np.arange(width) * 5 // width
    return glyph[rows][:, columns]


def lines(rng: Rng, count: int) -> Batch:
    """Lines of four to seven symbols, 32 pixels high, values of -1..1; true is the symbol at every second column."""
    x = np.empty((count, 1, 32, 128))
    frames, length = np.zeros((count, 64), np.int64), rng.integers(4, 8, count)
    for i in range(count):
        paper, ink = sorted(rng.uniform(-1, 1, 2)) if rng.random() < 0.5 else sorted(rng.uniform(-1, 1, 2))[::-1]
        ink = ink + np.sign(ink - paper) * 0.4
        x[i] = paper + rng.normal(0, rng.uniform(0.02, 0.15), (32, 128))
        at = int(rng.integers(2, 8))
        for _ in range(length[i]):
            symbol, width, height = int(rng.integers(12)), int(rng.integers(9, 14)), int(rng.integers(16, 25))
            top = int(rng.integers(1, 31 - height))
            x[i, 0, top : top + height, at : at + width][_stretched(GLYPHS[symbol], height, width)] = ink
            frames[i, (at + 2) // 2 : (at + width - 1) // 2] = symbol + 1
            at += width + int(rng.integers(2, 5))
    return Batch(np.clip(x, -1, 1).astype(np.float32), {"frames": frames})


def pages(rng: Rng, count: int) -> Batch:
    """Pictures with a few lines of symbols and the map of where they are. Values as ImageNet's mean and std give."""
    x = np.stack([_background(rng, SIDE) for _ in range(count)])
    truth = np.zeros((count, 1, SIDE, SIDE), np.float32)
    for i in range(count):
        for _ in range(rng.integers(1, 4)):
            height, symbols = int(rng.integers(8, 20)), int(rng.integers(2, 6))
            width = max(5, height * 2 // 3)
            top, left = int(rng.integers(0, SIDE - height)), int(rng.integers(0, max(1, SIDE - symbols * (width + 2))))
            right = min(SIDE, left + symbols * (width + 2))
            ink = rng.uniform(0, 1, 3)
            for at in range(left, right - width, width + 2):
                mask = _stretched(GLYPHS[rng.integers(12)], height, width)
                x[i, :, top : top + height, at : at + width][:, mask] = ink[:, None]
            truth[i, 0, top : top + height, left:right] = 1.0
    return Batch(((np.clip(x, 0, 1) - 0.45) / 0.225).astype(np.float32), {"map": truth})


def sounds(rng: Rng, count: int) -> Batch:
    """Half a second with any of six: low, middle, high tone, rising sweep, clicks, hiss."""
    t = np.arange(RATE // 2) / RATE
    present = (rng.random((count, 6)) < 0.35).astype(np.float32)
    x = np.empty((count, len(t)))
    for i in range(count):
        x[i] = rng.normal(0, 10 ** rng.uniform(-3.5, -2), len(t))
        loud = 10 ** rng.uniform(-1.7, -0.4, 6)
        low, middle, high = rng.uniform(150, 350), rng.uniform(700, 1200), rng.uniform(2400, 3300)
        tones = [np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in (low, middle, high)]
        sweep = np.sin(2 * np.pi * (400 + rng.uniform(1500, 2500) * t) * t)
        clicks = (rng.random(len(t)) < 0.004) * rng.choice([-2.0, 2.0], len(t))
        hiss = rng.normal(0, 0.5, len(t))
        for part, own, volume in zip([*tones, sweep, clicks, hiss], present[i], loud, strict=True):
            x[i] += own * volume * part
    return Batch(np.clip(x, -1, 1).astype(np.float32), {"present": present})


def arrows(rng: Rng, count: int) -> Batch:
    """An arrow on a background of 0..255, turned by a quarter and up to 40 degrees more."""
    x = np.stack([_background(rng, 64) for _ in range(count)])
    turn, fine = rng.integers(0, 4, count), rng.uniform(-40, 40, count)
    v, u = np.mgrid[:64, :64] - 31.5
    for i in range(count):
        angle = np.deg2rad(90 * turn[i] + fine[i])
        size, dx, dy = rng.uniform(12, 24), *rng.uniform(-6, 6, 2)
        a = ((u - dx) * np.cos(angle) + (v - dy) * np.sin(angle)) / size
        b = (-(u - dx) * np.sin(angle) + (v - dy) * np.cos(angle)) / size
        mask = ((np.abs(a) < 1) & (np.abs(b) < 0.15)) | ((a > 0.2) & (a < 1) & (np.abs(b) < (1 - a) * 0.8))
        x[i, :, mask] = rng.uniform(0, 1, 3)
    return Batch((np.clip(x, 0, 1) * 255).astype(np.float32), {"turn": turn, "fine": fine.astype(np.float32)})


DATA: dict[str, Callable[[Rng, int], Batch]] = {
    "sequence": tokens,
    "detector": objects,
    "recognizer": lines,
    "textdetector": pages,
    "audio": sounds,
    "angle": arrows,
}
