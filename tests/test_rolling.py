"""A run over samples: a recurrent model's states go round, in calibration, comparison and search alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from recurrent import FRAME, UNITS, Array, cell, frames, rolled, written
from rich.console import Console

import hybridq
from hybridq import steps, targets
from hybridq.calibration import calibrate
from hybridq.compare import Outside, compare
from hybridq.compare.error_over_time import course_of
from hybridq.dataset import InputSpec, open_dataset
from hybridq.errors import DatasetError, HybridqError
from hybridq.graph import runtime
from hybridq.graph.rolling import Rolled, begins, follower, in_a_row, picked, stretches
from hybridq.report import Known, judge, print_report
from hybridq.steps.compare_models import compare_models
from hybridq.steps.prepare import prepare
from hybridq.steps.propose import auto

STATES = {"h": "hn"}
SPECS = (InputSpec("x", (1, FRAME), "float32"), InputSpec("h", (1, UNITS), "float32", state=True))
ZERO = np.zeros((1, UNITS), np.float32)


def feeds(sequences: list[Array]) -> list[dict[str, Array]]:
    return [{"x": x, **({} if t else {"h": ZERO})} for sequence in sequences for t, x in enumerate(sequence)]


def test_states_go_round_as_in_a_loop_of_ones_own() -> None:
    model, sequences = cell(), [frames(9, 1), frames(5, 2)]
    one = Rolled(runtime.session(model, threads=1), STATES)
    found = [one.run(feed, ["y"])[0] for feed in feeds(sequences)]
    wanted = [step[0] for sequence in sequences for step in rolled(model, sequence)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_sequence_that_begins_nowhere_is_refused() -> None:
    with pytest.raises(Exception, match="no states"):
        Rolled(runtime.session(cell(), threads=1), STATES).run({"x": frames(1)[0]})


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 40))
def test_what_is_picked_is_sequences_from_their_start(lengths: list[int], most: int) -> None:
    found = picked(lengths, most)
    assert len(found) == min(most, sum(lengths))
    starts = {int(s) for s in np.cumsum([0, *lengths[:-1]])}
    assert all(i in starts or i - 1 in found for i in found)
    assert found == sorted(set(found))


def test_stretches_of_an_ordinary_model_are_single_samples() -> None:
    held = feeds([frames(3), frames(2)])
    assert stretches(held, STATES) == [range(3), range(3, 5)]
    assert stretches(held, {}) == [range(i, i + 1) for i in range(5)]
    assert [begins(f, STATES) for f in held] == [True, False, False, True, False]


# --- samples ---


def shapes(source: Any, **options: Any) -> list[int]:
    """Lengths of the sequences that a dataset holds."""
    data = open_dataset(source, SPECS, **options)
    held = [s.feed for s in data]
    assert all(f["x"].shape == (1, FRAME) for f in held)
    return [len(s) for s in stretches(held, STATES)]


def test_blank_lines_part_sequences_and_comments_do_not(tmp_path: Path) -> None:
    path = written(tmp_path, [frames(4), frames(3)])
    path.write_text(path.read_text().replace("0-002.npy", "# a remark\n0-002.npy"))
    assert shapes(path) == [4, 3]
    assert shapes(path, sequence=2) == [2, 2, 2, 1]
    assert shapes(path, samples=5) == [4, 1]


def test_a_file_with_a_time_axis_is_a_sequence(tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", frames(7, 3))
    np.save(tmp_path / "flat.npy", frames(4, 4)[:, 0])
    np.save(tmp_path / "start.npy", np.full((1, UNITS), 0.5, np.float32))
    (tmp_path / "list.txt").write_text("long.npy\nflat.npy\n")
    assert shapes(tmp_path / "list.txt") == [7, 4], "the axis of the batch, which is 1, may be that of time"


def test_a_state_file_is_where_a_sequence_starts(tmp_path: Path) -> None:
    start = np.full((1, UNITS), 0.5, np.float32)
    np.save(tmp_path / "long.npy", frames(3, 3))
    np.save(tmp_path / "start.npy", start)
    (tmp_path / "list.txt").write_text("long.npy start.npy\nlong.npy\n")
    held = [s.feed for s in open_dataset(tmp_path / "list.txt", SPECS)]
    assert [set(f) for f in held] == [{"x", "h"}, {"x"}, {"x"}] * 2
    np.testing.assert_array_equal(held[0]["h"], start)
    np.testing.assert_array_equal(held[3]["h"], ZERO)


def test_other_sources_are_one_sequence(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", frames(6))
    np.savez(tmp_path / "all.npz", x=frames(6))
    assert shapes(tmp_path / "all.npy") == shapes(tmp_path / "all.npz") == shapes(list(frames(6))) == [6]
    assert shapes(tmp_path / "all.npz", sequence=4) == [4, 2]
    assert shapes([{"x": x} for x in frames(2)] + [None] + [{"x": x} for x in frames(3)]) == [2, 3]


def test_files_of_different_lengths_are_told_with_their_line(tmp_path: Path) -> None:
    specs = (*SPECS, InputSpec("e", (1, 2), "float32"))
    np.save(tmp_path / "x.npy", frames(3))
    np.save(tmp_path / "e.npy", np.zeros((4, 1, 2), np.float32))
    (tmp_path / "list.txt").write_text("\nx.npy e.npy\n")
    with pytest.raises(DatasetError, match=r"list.txt:2: .*different numbers of steps: 'x.npy' 3, 'e.npy' 4"):
        open_dataset(tmp_path / "list.txt", specs)


def test_a_state_of_any_batch_is_as_large_as_what_is_fed() -> None:
    specs = (InputSpec("x", ("n", FRAME), "float32"), InputSpec("h", (2, "n", UNITS), "float32", state=True))
    first = next(iter(open_dataset([np.zeros((3, FRAME), np.float32)], specs)))
    assert first.feed["h"].shape == (2, 3, UNITS)


def test_steps_are_not_stacked() -> None:
    with pytest.raises(DatasetError, match="follow each other"):
        list(open_dataset(list(frames(4)), SPECS).batches(2))


@pytest.mark.parametrize("size", [1, 3, 6])
def test_a_shard_never_splits_a_sequence(tmp_path: Path, size: int) -> None:
    data = open_dataset(written(tmp_path, [frames(4), frames(3), frames(5)]), SPECS)
    parts = [part for _, part in data.shards(size)]
    assert all(begins(next(iter(part)).feed, STATES) for part in parts)
    assert [s.name for part in parts for s in part] == [s.name for s in data]


# --- calibration ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cell")
    onnx.save(cell(), made / "cell.onnx")
    written(made, [frames(20, 1), frames(20, 2), frames(20, 3)])
    return made


@pytest.fixture(scope="module")
def build(folder: Path) -> Path:
    out = folder / "build"
    steps.step1(folder / "cell.onnx", folder / "dataset.txt", out, threads=1, dtype="uint8")
    steps.step2(out, threads=1)
    return out


def test_calibration_runs_on_the_models_own_states(folder: Path, tmp_path: Path) -> None:
    found = steps.step1(folder / "cell.onnx", folder / "dataset.txt", tmp_path, threads=1)
    states = [step[1] for seed in (1, 2, 3) for step in rolled(cell(), frames(20, seed))]
    assert found.stats is not None
    seen = found.stats.tensors["hn"]
    assert seen.min == pytest.approx(min(s.min() for s in states), abs=1e-5)
    assert seen.max == pytest.approx(max(s.max() for s in states), abs=1e-5)


def test_workers_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        steps.step1(folder / "cell.onnx", folder / "dataset.txt", tmp_path / f"{workers}", threads=1, workers=workers)
    for name in ("model.json", "weights.data", "model.quantization.cfg"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


# --- comparison and search ---


def loop_db(model: onnx.ModelProto, hybrid: Path, sequences: list[Array]) -> float:
    """SQNR of the output in a loop written by hand."""
    signal = noise = 0.0
    one = runtime.session(hybrid, threads=1)
    for sequence in sequences:
        state = ZERO
        for x, (wanted, _) in zip(sequence, rolled(model, sequence), strict=True):
            got, state = runtime.run(one, {"x": x, "h": state}, ["y", "hn"])
            signal += float((wanted.astype(np.float64) ** 2).sum())
            noise += float(((wanted.astype(np.float64) - got) ** 2).sum())
    return float(10 * np.log10(signal / noise))


def test_step3_rolls_each_model_on_its_own_states(folder: Path, build: Path) -> None:
    found = steps.step3(build, threads=1, seconds=0).report
    output = next(o for o in found.outputs if o.name == "y")
    wanted = loop_db(cell(), build / "hybrid.onnx", [frames(20, seed) for seed in (1, 2, 3)])
    assert output.sqnr_db == pytest.approx(wanted, abs=0.02)


def test_compare_of_two_files_rolls_too(folder: Path, build: Path) -> None:
    found = compare_models(folder / "cell.onnx", build / "hybrid.onnx", folder / "dataset.txt", seconds=0)
    wanted = loop_db(cell(), build / "hybrid.onnx", [frames(20, seed) for seed in (1, 2, 3)])
    assert next(o for o in found.report.outputs if o.name == "y").sqnr_db == pytest.approx(wanted, abs=0.02)


def test_a_metric_is_of_the_rolled_outputs(folder: Path, build: Path) -> None:
    data = feeds([frames(20, 1)])
    seen: list[int] = []

    def metric(outputs: Any) -> float:
        seen.append(len(outputs))
        return float(outputs[-1]["y"].sum())

    found = compare(cell(), build / "hybrid.onnx", data, outside=Outside(metric), states=STATES).metric
    assert found is not None
    assert found.float_value == pytest.approx(float(rolled(cell(), frames(20, 1))[-1][0].sum()), abs=1e-4)


def test_a_search_measures_the_loop(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"threads": 1, "seconds": 0, "dtype": "uint8", "min_sqnr": 30.0}
    found = auto(folder / "cell.onnx", folder / "dataset.txt", tmp_path, **options)
    assert 30.0 <= found.found.figures.least < 100.0
    wanted = loop_db(cell(), tmp_path / "hybrid.onnx", [frames(20, seed) for seed in (1, 2, 3)])
    assert found.found.figures.sqnr_db == {"y": pytest.approx(wanted, abs=0.1)}


# --- the error over time ---


def powers(errors: list[float]) -> Any:
    return np.array([[1.0, e] for e in errors])


@pytest.mark.parametrize(
    ("errors", "course"),
    [
        ([0.01] * 40, "settles"),
        ([0.01 * (1 - 0.8**t) for t in range(40)], "settles"),
        ([1e-3 * t for t in range(1, 60)], "grows"),
        ([1e-8 * t for t in range(1, 60)], "settles"),
        ([1e-6 * 1.5**t for t in range(40)], "explodes"),
        ([0.0] * 40, "settles"),
        ([0.01] * 30 + [float("nan")] * 10, "explodes"),
        ([0.01] * 8, ""),
    ],
)
def test_a_course_settles_grows_or_explodes(errors: list[float], course: str) -> None:
    assert course_of(powers(errors)) == course


def test_silence_is_no_growth() -> None:
    loud = [[1.0, 0.01]] * 20
    assert course_of(np.array(loud + [[1e-6, 1e-6]] * 20)) == "settles", "an error as large as nothing is none"


def test_step3_tells_the_error_over_time(folder: Path, build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = steps.step3(build, threads=1, seconds=0)
    loop = found.report.loop
    assert loop is not None
    assert (loop.states, loop.sequences, loop.steps) == (STATES, 3, 20)
    assert [(c.name, c.state) for c in loop.courses] == [("y", False), ("hn", True)]
    assert [o.name for o in found.report.outputs] == ["y"], "a state is no answer"
    held = json.loads((found.folder / "report.json").read_text())
    schema = json.loads((Path(hybridq.__file__).parent / "schemas/report-1.schema.json").read_text())
    Draft202012Validator(schema).validate(held)
    assert held["loop"]["courses"][0]["course"] == loop.courses[0].course
    page = (found.folder / "index.html").read_text()
    assert "In the loop" in page
    assert "hn (state)" in page
    print_report(found.report, Console(width=100), found.verdict)
    assert "in the loop ('h' from 'hn'), 3 sequences of up to 20 steps: the error " in capsys.readouterr().out


def test_an_error_that_explodes_breaks_the_verdict() -> None:
    """A sum, and one that makes more of itself at every step."""
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[1,1] x, float[1,1] h) => (float[1,1] y, float[1,1] hn)'
    right = onnx.parser.parse_model(head + " { hn = Add(h, x) y = Identity(hn) }")
    wrong = onnx.parser.parse_model(head + " <float f = {1.3}> { e = Mul(h, f) hn = Add(e, x) y = Identity(hn) }")
    data = [{"x": np.ones((1, 1), np.float32), **({} if t else {"h": np.zeros((1, 1), np.float32)})} for t in range(60)]
    found = compare(right, wrong, data, states=STATES)
    judged = judge(found, Known())
    assert judged.level == "broken"
    assert "explodes" in judged.reason


# --- samples that bring states of their own ---


def with_states(sequences: list[Array], every: int = 1) -> list[dict[str, Array]]:
    """What enters the float model in its loop, every so many steps of it."""
    found = []
    for sequence in sequences:
        states = [ZERO, *(step[1] for step in rolled(cell(), sequence))]
        found += [{"x": x, "h": h} for x, h in zip(sequence, states, strict=False)][::every]
    return found


@pytest.mark.parametrize(("every", "lengths"), [(1, [8, 5]), (4, [1, 1, 1, 1])])
def test_a_state_that_the_model_did_not_make_begins_a_sequence(every: int, lengths: list[int], tmp_path: Path) -> None:
    held = with_states([frames(8, 1), frames(5, 2)], every)
    follow = follower(cell(), STATES, threads=1)
    assert shapes(held, follow=follow) == lengths
    np.savez(tmp_path / "all.npz", **{n: np.stack([f[n] for f in held]) for n in ("x", "h")})
    assert shapes(tmp_path / "all.npz", follow=follow) == lengths
    lines = []
    for i, feed in enumerate(held):
        np.save(tmp_path / f"{i}-x.npy", feed["x"])
        np.save(tmp_path / f"{i}-h.npy", feed["h"])
        lines.append(f"{i}-x.npy {i}-h.npy\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    assert shapes(tmp_path / "list.txt", follow=follow) == lengths
    first = [s.feed for s in open_dataset(tmp_path / "list.txt", SPECS, follow=follow) if "h" in s.feed]
    np.testing.assert_array_equal(first[-1]["h"], held[sum(lengths[:-1])]["h"])


def test_step3_is_the_same_whoever_runs_the_samples(build: Path) -> None:
    found = [steps.step3(build, threads=1, seconds=0, workers=n).to_json() for n in (1, 2)]
    assert found[0] == found[1]


def test_steps_measured_in_blocks_are_those_measured_one_by_one(folder: Path) -> None:
    model = prepare(folder / "cell.onnx", (), (), targets.load("onnxruntime"))
    held = list(enumerate(feeds([frames(150, 1), frames(70, 2)])))
    program = calibrate.prepare(model.model, model.proto, histogram=True)
    many = calibrate.recurrent.looping(program, 1)
    assert many is not None
    blocks = calibrate.measure_with(program, many, held)
    single = calibrate.measure_with(program, runtime.session(program.model, threads=1), held)
    assert blocks.samples == single.samples == 220
    for name, one in single.tensors.items():
        np.testing.assert_allclose(blocks.tensors[name].pairs, one.pairs, rtol=1e-5, atol=1e-6)
        counted = blocks.tensors[name].histogram, one.histogram
        assert counted[0] is not None
        assert counted[1] is not None
        assert counted[0].count == counted[1].count


@pytest.mark.parametrize("lengths", [(300, 40), (1,) * 20, (5, 1, 90)])
def test_ranges_of_many_steps_are_those_of_each_to_the_last_bit(folder: Path, lengths: tuple[int, ...]) -> None:
    made = prepare(folder / "cell.onnx", (), (), targets.load("onnxruntime"))
    program = calibrate.prepare(made.model, made.proto, histogram=True)
    many = calibrate.recurrent.looping(program, 1)
    assert many is not None
    held = feeds([frames(length, seed) for seed, length in enumerate(lengths)])
    found = calibrate.measure_with(program, many, enumerate(held))
    names = [name for name in program.tensors if name not in program.inputs]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(made.proto)
    runtime.expose(exposed, names)
    rolled = Rolled(runtime.session(exposed, threads=1), made.model.states)
    for i, feed in enumerate(held):
        for name, values in zip(names, rolled.run(feed, names), strict=True):
            low = np.float32(0) if name in program.zeros else values.min()
            assert found.tensors[name].pairs[i].tolist() == [low, values.max()], (i, name)


@pytest.mark.parametrize("where", [3, 90])
def test_a_step_that_holds_nan_is_named(folder: Path, tmp_path: Path, where: int) -> None:
    sequence = frames(100, 1)
    sequence[where, 0, 2] = np.nan
    with pytest.raises(HybridqError, match=rf"sample {where + 1}|\[{where}\]|NaN"):
        steps.step1(folder / "cell.onnx", list(sequence), tmp_path, threads=1)


def test_samples_that_stand_alone_are_judged_in_a_row() -> None:
    alone = with_states([frames(120, 1)], 5)
    row = in_a_row(alone, STATES)
    assert [len(s) for s in stretches(row, STATES)] == [24]
    assert [f["x"] is g["x"] for f, g in zip(alone, row, strict=True)] == [True] * 24
    long = feeds([frames(20), frames(4)])
    assert in_a_row(long, STATES) == long
    assert in_a_row(alone, {}) == alone
