"""One pass over the samples gives the same bytes and says the same, wherever its shards are measured."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridq
from hybridq.dataset import Audit, InputSpec, Sample
from hybridq.errors import HybridqError
from hybridq.execution.spread import in_order
from hybridq.execution.workers import Workers
from hybridq.steps.prepare import Seen

FILES = ("model.json", "weights.data", "model.quantization.cfg")
SPECS = (InputSpec("x", (1, 3, "h", "w"), "float32"), InputSpec("n", (1,), "int64"))


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """Samples of few different values and shapes, some of them odd."""
    found = []
    for i in range(draw(st.integers(1, 8))):
        fill = draw(st.sampled_from([0.0, 1.5, 300.0, np.nan, np.inf]))
        values = np.full((1, 3, draw(st.integers(1, 2)), 2), fill, np.float32)
        values[..., 0] = draw(st.sampled_from([0.1, 0.7]))
        found.append(Sample(f"{i}", i + 1, {"x": values, "n": np.array([draw(st.integers(0, 1))])}))
    return found


@given(data=st.data(), all_of_them=samples())
def test_parts_that_are_merged_say_what_the_whole_says(data: st.DataObject, all_of_them: list[Sample]) -> None:
    whole, merged, seen, joined = Audit(SPECS), Audit(SPECS), Seen(), Seen()
    for sample in all_of_them:
        whole.add(sample)
        seen.add(sample)
    ends = sorted({0, len(all_of_them), *data.draw(st.lists(st.integers(0, len(all_of_them)), max_size=3))})
    for a, b in pairwise(ends):
        part, part_seen = Audit(SPECS), Seen()
        for sample in all_of_them[a:b]:
            part.add(sample)
            part_seen.add(sample)
        merged.merge(part)
        joined.merge(part_seen)
    assert merged.rows == whole.rows
    assert merged.problems == whole.problems
    assert (merged.samples, merged.distinct, merged.places) == (whole.samples, whole.distinct, whole.places)
    assert (joined.place, joined.counts) == (seen.place, seen.counts)
    assert joined.last is seen.last
    assert joined.first is seen.first


@given(order=st.permutations(range(6)))
def test_results_that_come_early_wait(order: list[int]) -> None:
    assert list(in_order((n, -n) for n in order)) == [-n for n in range(6)]


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_shards_give_the_same_files_wherever_they_are_measured(folder: Path, kind: str) -> None:
    (folder / "long.txt").write_text("".join(f"{i % 8}.png\n" for i in range(70)))
    plain = hybridq.step1("small.onnx", "long.txt", "plain", std="255", threads=1)
    made: Executor = ThreadPoolExecutor(2) if kind == "threads" else Workers(2)
    with made as executor:
        spread = hybridq.step1("small.onnx", "long.txt", "spread", std="255", threads=1, executor=executor)
    assert files(folder / "spread") == files(folder / "plain")
    assert spread.rows == plain.rows
    assert spread.problems == plain.problems


@pytest.mark.parametrize("bad", [3, 20, 39])
@pytest.mark.parametrize("fault", ["nan", "cut short", "of another shape"])
def test_a_wrong_sample_is_named_wherever_it_is_met(folder: Path, bad: int, fault: str) -> None:
    for i in range(40):
        np.save(f"{i}.npy", np.full((1, 3, 8, 8), i, np.float32))
    if fault == "nan":
        np.save(f"{bad}.npy", np.full((1, 3, 8, 8), np.nan, np.float32))
    elif fault == "cut short":
        Path(f"{bad}.npy").write_bytes(Path("0.npy").read_bytes()[:200])
    else:
        np.save(f"{bad}.npy", np.zeros((1, 3, 9, 9), np.float32))
    Path("list.txt").write_text("".join(f"{i}.npy\n" for i in range(40)))
    with pytest.raises(HybridqError) as here:
        hybridq.step1("small.onnx", "list.txt", "new", threads=1)
    with ThreadPoolExecutor(2) as executor, pytest.raises(HybridqError) as there:
        hybridq.step1("small.onnx", "list.txt", "new", threads=1, executor=executor)
    assert f"{bad}.npy" in str(here.value)
    assert str(there.value) == str(here.value)
