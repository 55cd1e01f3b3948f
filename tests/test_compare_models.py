"""``compare``: two models of any tools get the report that step3 gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import qdq_models
from helpers_cli import Run

import hybridq
import hybridq.graph.runtime
from hybridq.compare import pairs_by_name
from hybridq.report import Level

STORED = {"x": (-4.0, 4.0), "stem": (0.0, 12.0), "body": (-30.0, 30.0), "box": (-3000.0, 3000.0), "score": (-3.0, 3.0)}
FEEDS = qdq_models.samples()


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``float.onnx``, ``other.onnx`` in 8 bits that says nothing of where it comes from, and ``data.txt``."""
    model = qdq_models.two_heads()
    other = qdq_models.quantized(model, STORED, ("stem.w", "body.w"))
    del other.metadata_props[:]
    onnx.save(model, tmp_path / "float.onnx")
    onnx.save(other, tmp_path / "other.onnx")
    for i, feed in enumerate(FEEDS):
        np.save(tmp_path / f"{i}.npy", feed["x"])
    (tmp_path / "data.txt").write_text("".join(f"{i}.npy\n" for i in range(len(FEEDS))))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("two")
def test_a_model_is_identical_to_itself() -> None:
    found = hybridq.compare_models("float.onnx", "float.onnx", "data.txt", threads=1, seconds=0)
    assert found.verdict.level is Level.OK
    assert all(o.figures.identical for o in found.report.outputs)
    assert all(x.entire is not None and x.entire.identical for x in found.report.layers)
    assert found.folder is None


@pytest.mark.usefixtures("two")
def test_the_figures_are_those_of_an_independent_computation() -> None:
    report = hybridq.compare_models("float.onnx", "other.onnx", "data.txt", threads=1, seconds=0).report
    sessions = [hybridq.graph.runtime.session(n, threads=1) for n in ("float.onnx", "other.onnx")]
    a, b = (np.stack([s.run(["out"], f)[0].astype(np.float64) for f in FEEDS]) for s in sessions)
    db = 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum())
    assert report.outputs[0].sqnr_db == pytest.approx(db, abs=1e-6)
    assert report.samples == len(FEEDS)


def test_layers_are_matched_by_name_behind_their_quantizers() -> None:
    model = qdq_models.two_heads()
    other = qdq_models.quantized(model, STORED, ("stem.w", "body.w"))
    pairs = {p.name: p for p in pairs_by_name(model, other)}
    assert {"stem", "body", "box", "score"} <= set(pairs)
    assert "out" not in pairs  # a Concat only moves values
    for name in ("stem", "body"):
        assert pairs[name].precision == "uint8"
    assert {p.precision for p in pairs_by_name(model, model)} == {"float32"}


def test_tensors_that_another_tool_fused_away_are_left_out() -> None:
    model = qdq_models.two_heads()
    other = qdq_models.two_heads()
    node = next(n for n in other.graph.node if n.output[0] == "stem.pre")
    node.output[0] = "renamed"
    next(n for n in other.graph.node if n.output[0] == "stem").input[0] = "renamed"
    assert "stem.pre" not in {p.name for p in pairs_by_name(model, other)}


def test_the_command_prints_and_writes_the_same_report(two: Path, run: Run) -> None:
    words = ("compare", "float.onnx", "other.onnx", "--dataset", "data.txt", "--threads", 1)
    done = run(*words, "-o", "compared")
    assert done.code == 0
    assert "what to do next, since" in done.out
    assert {p.name for p in (two / "compared" / "report").iterdir()} >= {"index.html", "report.json", "layers.csv"}
    told = run(*words, "--json").json
    assert told["verdict"]["level"] in ("warning", "broken")
    assert told["layers"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("absent.onnx", "other.onnx"), "absent.onnx"),
        (("float.onnx", "data.txt"), "not an ONNX model"),
        (("float.onnx", "others.onnx"), "its inputs are others"),
    ],
)
def test_wrong_models_end_with_1(two: Path, run: Run, words: tuple[str, str], says: str) -> None:
    others = qdq_models.two_heads()
    others.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    onnx.save(others, two / "others.onnx")
    done = run("compare", *words, "--dataset", "data.txt", "--threads", 1)
    assert done.code == 1
    assert says in done.err


@pytest.mark.usefixtures("two")
def test_a_missing_dataset_ends_with_2_and_an_absent_one_with_1(run: Run) -> None:
    assert run("compare", "float.onnx", "other.onnx").code == 2
    assert run("compare", "float.onnx", "other.onnx", "--dataset", "absent.txt").code == 1
