"""What took long is there again after a kill, and gone after an end: the same bytes, and nothing made twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_search import feeds_of, small_model
from hypothesis import given
from hypothesis import strategies as st

import hybridq
from hybridq.repair import gptq
from hybridq.storage import kept
from hybridq.storage.kept import FOLDER, NOTHING, Kept

SEED, SAMPLES = 3, 8
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from helpers_search import feeds_of
import hybridq
from hybridq.storage import kept

kept.SECONDS = 0.0
what, at = sys.argv[4], int(sys.argv[5])
seen = 0

def progress(said, done, total):
    global seen
    seen += said.startswith(what)
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)

words = {"every_algorithm": True} if sys.argv[6] == "step1" else {}
feeds = feeds_of(*map(int, sys.argv[7:]))
getattr(hybridq, sys.argv[6])(sys.argv[2], feeds, sys.argv[3], threads=1, progress=progress, **words)
"""
ENDS = ("model.json", "weights.data", "model.quantization.cfg")
parts = st.recursive(st.text(max_size=3) | st.integers(0, 9), lambda x: st.lists(x, max_size=3), max_leaves=6)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(small_model(SEED), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def killed(model: Path, folder: Path, what: str, at: int, step: str) -> None:
    """Run a step until its progress has said something so many times, and kill it there."""
    script = folder.parent / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    words = [str(Path(__file__).parent), str(model), str(folder), what, str(at), step, str(SEED), str(SAMPLES)]
    ended = subprocess.run([sys.executable, str(script), *words], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def told(model: Path, folder: Path, step: str = "step1") -> Counter[str]:
    """Run a step, and count what its progress says."""
    said: Counter[str] = Counter()

    def progress(what: str, _done: int, _total: int | None) -> None:
        said[what.partition(" (")[0]] += 1

    words = {"every_algorithm": True} if step == "step1" else {}
    getattr(hybridq, step)(model, feeds_of(SEED, SAMPLES), folder, threads=1, progress=progress, **words)
    return said


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize(
    ("what", "at"),
    [
        ("rounding weights together, layers", 2),
        pytest.param("correcting biases", 5, marks=pytest.mark.slow),
        pytest.param("comparing repairs", 3, marks=pytest.mark.slow),
    ],
)
def test_a_step1_that_was_killed_goes_on(model: Path, tmp_path: Path, what: str, at: int) -> None:
    whole = told(model, tmp_path / "whole")
    killed(model, tmp_path / "broken", what, at, "step1")
    assert list((tmp_path / "broken" / FOLDER).glob("*.npy"))
    again = told(model, tmp_path / "broken")
    assert again["correcting biases"] <= whole["correcting biases"] - min(at, SAMPLES)
    if what != "correcting biases":
        assert again["rounding weights together, layers"] < whole["rounding weights together, layers"]
    for name in ENDS:
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "broken" / FOLDER).exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_search_that_was_killed_repairs_nothing_again(model: Path, tmp_path: Path) -> None:
    """Neither step1's repairs nor its own; the result is that of a search that was let be."""
    whole = told(model, tmp_path / "whole", "auto")
    killed(model, tmp_path / "broken", "measuring joint models", 1, "auto")
    again = told(model, tmp_path / "broken", "auto")
    for said in ("correcting biases", "rounding weights together, layers"):
        assert whole[said] > 0
        assert again[said] == 0
    for name in (*ENDS, "hybrid.onnx"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "broken" / FOLDER).exists()


def test_other_samples_find_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept counts for the same weights, ranges and samples alone."""
    monkeypatch.setattr(kept, "SECONDS", 0.0)
    held, rounded = Kept(tmp_path / FOLDER), list[str]()
    original = gptq._rounded

    def counting(node: object, layer: object, *rest: object) -> object:
        rounded.append(layer.name)  # type: ignore[attr-defined]
        return original(node, layer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(gptq, "_rounded", counting)
    counts = []
    for number, seed in enumerate((SEED, SEED, SEED + 1)):
        rounded.clear()
        hybridq.step1(model, feeds_of(seed, SAMPLES), tmp_path / str(number), threads=1, kept=held)
        counts.append(len(rounded))
    assert counts[0] > 0
    assert counts[1:] == [0, counts[0]]


@given(parts, parts)
def test_a_key_is_that_of_its_parts(one: object, other: object) -> None:
    held = Kept(Path("anywhere"))
    assert (held.key(one) == held.key(other)) == (one == other)  # type: ignore[arg-type]


def test_a_key_knows_an_array_by_type_shape_and_values() -> None:
    held, values = Kept(Path("anywhere")), np.arange(6, dtype=np.float32)
    others = [values, values.reshape(2, 3), values.view(np.int32), values + 1, np.array(1.0), [values, values]]
    assert len({held.key(x) for x in others}) == len(others)
    assert held.key(values) == held.key(values.copy()) == held.key(np.arange(12, dtype=np.float32)[::2] / 2)


def test_a_damaged_file_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SECONDS", 0.0)
    Kept(tmp_path / FOLDER).put("a", np.arange(3.0))
    assert Kept(tmp_path / FOLDER).get("a", (3,), np.float64) is not None
    assert Kept(tmp_path / FOLDER).get("a", (4,), np.float64) is None
    assert Kept(tmp_path / FOLDER).get("a", (3,), np.float32) is None
    whole = (tmp_path / FOLDER / "a.npy").read_bytes()
    for broken in (b"", whole[:40], whole[:-1], b"no array", np.array(["x"], object).dumps()):
        (tmp_path / FOLDER / "a.npy").write_bytes(broken)
        assert Kept(tmp_path / FOLDER).get("a", (3,), np.float64) is None


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_in_its_place_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SECONDS", 0.0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / FOLDER).symlink_to(tmp_path / "elsewhere")
    held = Kept(tmp_path / FOLDER)
    held.put("a", np.arange(3.0))
    held.drop()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SECONDS", 0.0)
    NOTHING.put("", np.arange(3.0))
    assert NOTHING.get("", (3,), np.float64) is None
    assert NOTHING.key("a") == ""


def test_what_ends_by_itself_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Well or not; what is stopped from outside leaves it."""
    monkeypatch.setattr(kept, "SECONDS", 0.0)
    for error, stays in ((None, False), (ValueError, False), (KeyboardInterrupt, True)):
        with pytest.raises(error) if error else pytest.MonkeyPatch.context(), kept.kept_in(tmp_path) as held:
            held.put("a", np.arange(3.0))
            if error is not None:
                raise error
        assert (tmp_path / FOLDER).exists() == stays
