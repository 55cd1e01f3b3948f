"""A telephone's keys by ear: sounds made here, their features, and a score that runs a model in its loop. NumPy alone.

Each key of a keypad sends two tones at once (ITU-T Q.23). The model hears one frame of 20 ms at a time and keeps a
state: ``frame`` (1, 40) and ``state`` (1, 48) in, ``keys`` (1, 17) and ``next_state`` (1, 48) out; key 16 is silence.

    python keypad.py MODEL.onnx ...     # the share of frames whose key is named rightly, on 40 calls
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)  # Hz
KEYS = "123A456B789C*0#D"
SILENCE = len(KEYS)
RATE, HOP, WINDOW = 8000, 160, 256  # samples a second, a frame, a spectrum
BINS = slice(18, 58)  # of the spectrum: 560 to 1780 Hz
FRAMES, STATE = 100, 48


def call(rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """One call of two seconds: its features (FRAMES, 40) and the key pressed in each frame (FRAMES,)."""
    keys = np.full(FRAMES, SILENCE)
    wave = np.zeros(FRAMES * HOP + WINDOW)
    at = int(rng.integers(0, 8))
    while at < FRAMES - 4:
        key, end = int(rng.integers(16)), at + int(rng.integers(8, 21))
        t = np.arange((min(end, FRAMES) - at) * HOP) / RATE
        low, high = (f * rng.uniform(0.985, 1.015) for f in (ROWS[key // 4], COLUMNS[key % 4]))
        loud = 10 ** (rng.uniform(-6, 6) / 20)
        wave[at * HOP : at * HOP + len(t)] = loud * np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t) / loud
        keys[at:end] = key
        at = end + int(rng.integers(4, 11))
    wave *= 10 ** (rng.uniform(-30, 0) / 20)
    noise = rng.normal(0, 1, wave.size) * np.sqrt(np.mean(wave**2)) * 10 ** (rng.uniform(-8, 10) / 20)
    return features(wave + noise + rng.normal(0, 1e-4, wave.size)), keys


def features(wave: NDArray[np.float64]) -> Array:
    """Log power of each frame's bins, (FRAMES, 40), about -1 to 1."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP][:FRAMES]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW)))[:, BINS] ** 2
    return (np.log10(power + 1e-4) / 4).astype(np.float32)


def calls(count: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """``count`` calls: features (count, FRAMES, 40), keys (count, FRAMES)."""
    pairs = [call(np.random.default_rng([seed, i])) for i in range(count)]
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def loop(session: Any, heard: Array) -> Iterator[tuple[Array, Array]]:
    """Run one call, (FRAMES, 40), frame by frame: the state that entered, and the keys' scores, (17,)."""
    state = np.zeros((1, STATE), np.float32)
    for frame in heard:
        entered = state
        keys, state = session.run(["keys", "next_state"], {"frame": frame[None], "state": state})
        yield entered, keys[0]


def accuracy(session: Any, heard: Array, keys: NDArray[np.int64]) -> float:
    """The share of frames whose key is named rightly, each call run from silence."""
    named = np.array([[scores.argmax() for _, scores in loop(session, one)] for one in heard])
    return float((named == keys).mean())


def write(heard: Array, folder: Path, name: str) -> Path:
    """Calls as files with a time axis, (FRAMES, 1, 40); ``NAME.txt`` lists them, a line a call."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    places = [f"{name}/{number:02}.npy" for number in range(len(heard))]
    for place, one in zip(places, heard, strict=True):
        np.save(folder / place, one[:, None])
    path = folder / f"{name}.txt"
    path.write_text("".join(f"{place}\n" for place in places), encoding="utf-8")
    return path


def main(paths: list[str]) -> None:
    """Print each model's accuracy on the same calls."""
    import onnxruntime  # only this needs it

    heard, keys = calls(40, seed=2)
    for path in paths:
        print(f"{path:24} {accuracy(onnxruntime.InferenceSession(path), heard, keys):.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
