"""Damaged files of every kind, by a seeded generator: a message or the same result, never a crash or another model."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from helpers_cli import Run

BUILT = ("model.json", "weights.data", "model.quantization.cfg", "hybrid.onnx", "build.json", "search.json")
GIVEN = ("small.onnx", "3.png", "sample.npy", "dataset.txt")
READERS = (("check", "build"), ("list", "build"), ("diff", "build"), ("step2", "build"), ("step3", "build"))
FAST, MANY = 300, 5000
SHARDS = 10
WORDS = [b"null", b"[]", b"{}", b"-1", b"1e999", b'"', b"\xff", b"\n", b"  "]


def damaged(data: bytes, pick: random.Random) -> bytes:
    """Another content: bits, a cut, bytes put in or taken out, a number changed, a stretch of zeros."""
    at = pick.randrange(max(1, len(data)))
    kind = pick.randrange(7)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + pick.randbytes(pick.randrange(1, 9)) + data[at:]
    if kind == 2:
        return data[:at] + data[at + pick.randrange(1, 9) :]
    if kind == 3:
        return data[:at] + bytes(len(data[at : at + 64])) + data[at + 64 :]
    if kind == 4:
        places = [i for i, b in enumerate(data) if 48 <= b <= 57]
        i = pick.choice(places) if places else at
        return data[:i] + b"%d" % pick.randrange(10) + data[i + 1 :]
    if kind == 5:
        return (
            data[:at]
            + pick.choice([b"null", b"[]", b"{}", b"-1", b"1e999", b'"', b"\xff", b"\n", b"  "])
            + data[at + 2 :]
        )
    changed = bytearray(data)
    for _ in range(pick.randrange(1, 4)):
        if changed:
            changed[pick.randrange(len(changed))] ^= 1 << pick.randrange(8)
    return bytes(changed)


def one(folder: Path, run: Run, pick: random.Random) -> None:
    """Damage one file, run one command; then everything is put back."""
    name = pick.choice([f"build/{n}" for n in BUILT] + list(GIVEN))
    path = folder / name
    before = path.read_bytes()
    path.write_bytes(after := damaged(before, pick))
    words = pick.choice(READERS)
    if name in GIVEN:
        source = "sample.npy" if name == "sample.npy" else "dataset.txt"
        words = ("step1", "small.onnx", "--dataset", source, "-o", "other", "--std", "255", "--threads", "1")
    elif words[0] == "step3":
        words = (*words, "--threads", "1", "--seconds", "0")
    built = (folder / "build" / "hybrid.onnx").read_bytes()
    done = run(*words)
    text = done.out + done.err
    assert done.code in (0, 1), f"{name}, {words[0]}: {text}"
    assert "Traceback" not in text
    assert "fault of hybridq" not in text, f"{name}, {words[0]}: {text}"
    assert done.code == 0 or text.strip()
    if name in ("build/model.json", "build/weights.data") and words[0] == "step2" and before != after:
        assert done.code == 1, f"{name} was damaged, and a model was built of it"
        assert (folder / "build" / "hybrid.onnx").read_bytes() == built
    path.write_bytes(before)
    shutil.rmtree(folder / "other", ignore_errors=True)


@pytest.fixture
def given(folder: Path, small_folder: Path) -> Path:
    """The finished folder with a search's file and a sample of its own."""
    import numpy as np

    np.save(folder / "sample.npy", np.full((1, 3, 8, 8), 100, np.float32))
    (folder / "build" / "search.json").write_text('{"format": "hybridq.search/1", "front": [], "measured": {}}\n')
    return folder


@pytest.mark.parametrize("shard", range(SHARDS))
def test_damaged_files(given: Path, run: Run, shard: int) -> None:
    pick = random.Random(shard)
    for _ in range(FAST // SHARDS):
        one(given, run, pick)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_many_damaged_files(given: Path, run: Run, shard: int) -> None:
    pick = random.Random(1000 + shard)
    for _ in range(MANY // SHARDS):
        one(given, run, pick)
