"""The verdict: what decides, what never does, and that what it says first names the culprit."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_chinese import is_translated
from helpers_verdict import FAR, KNOWN, REPORT, printed, with_output
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

import hybridq
from hybridq.compare import MetricReport
from hybridq.compare.results import Timing
from hybridq.report import Known, Level, judge, print_report
from hybridq.report.known import Accuracy, Remedy
from hybridq.report.page import page
from hybridq.report.terminal import COLUMNS, LINES
from hybridq.report.words import short


@pytest.mark.parametrize(
    ("whole", "worst", "level"),
    [
        (45.0, 35.0, Level.OK),
        (math.inf, math.inf, Level.OK),
        (42.2, 27.2, Level.WARNING),  # such a face detector has lost a tenth of its F1 at a cosine of .99997
        (15.0, 40.0, Level.WARNING),
        (45.0, 1.0, Level.BROKEN),
        (5.0, 5.0, Level.BROKEN),
        (-math.inf, -math.inf, Level.BROKEN),
    ],
)
def test_the_signal_that_an_output_keeps_decides(whole: float, worst: float, level: Level) -> None:
    assert judge(with_output(whole, worst), KNOWN).level is level


@given(st.floats(-1, 1), st.floats(-10, 60), st.floats(-10, 60))
def test_the_cosine_never_decides(cosine: float, whole: float, worst: float) -> None:
    found = [judge(with_output(whole, min(whole, worst), c), KNOWN) for c in (cosine, 1.0)]
    assert (found[0].level, found[0].reason) == (found[1].level, found[1].reason)


@given(st.floats(-10, 60), st.floats(-10, 60), st.floats(0, 30))
def test_less_noise_is_never_judged_worse(whole: float, worst: float, gain: float) -> None:
    before, after = (judge(with_output(whole + g, worst + g), KNOWN).level for g in (0.0, gain))
    assert list(Level).index(after) <= list(Level).index(before)


@pytest.mark.parametrize(
    ("centered", "samples", "level"),
    [
        (40.0, 20, Level.OK),
        (22.0, 20, Level.WARNING),  # such landmarks are wrong by half a pixel, at 42 dB as a whole
        (1.0, 20, Level.BROKEN),
        (1.0, 4, Level.OK),  # so few samples hardly say what varies
        (None, 20, Level.OK),
    ],
)
def test_what_varies_over_the_samples_is_judged_by_itself(centered: float | None, samples: int, level: Level) -> None:
    report = with_output(45.0, 42.0, samples=samples)
    output = dataclasses.replace(report.outputs[0], centered_sqnr_db=centered)
    found = judge(dataclasses.replace(report, outputs=(output,)), KNOWN)
    assert found.level is level
    assert found.reason.startswith("what varies in output ") == (level is not Level.OK)


def test_the_output_farthest_below_its_limit_is_named_first_and_how_many_fall_short() -> None:
    report = with_output(42.4, 27.5, samples=20)
    scores, boxes = (dataclasses.replace(report.outputs[0], name=name) for name in ("scores", "boxes"))
    boxes = dataclasses.replace(boxes, sqnr_db=44.9, worst_sqnr_db=40.0, centered_sqnr_db=13.1)  # 11.9 short, not 2.5
    for outputs in ((scores, boxes), (boxes, scores)):
        reason = judge(dataclasses.replace(report, outputs=outputs), KNOWN).reason
        assert reason.startswith("what varies in output 'boxes' from sample to sample is down to 13.1 dB")
        assert reason.endswith("; 2 of 2 outputs fall short")
        assert is_translated(reason)
        told = printed(dataclasses.replace(report, outputs=outputs), KNOWN)
        assert "outputs  boxes 44.9 dB, scores 42.4 dB" in told
    lost = dataclasses.replace(scores, worst_sqnr_db=2.9)  # a level worse, however little below that limit
    fine = dataclasses.replace(boxes, centered_sqnr_db=30.0)
    assert "'scores'" in judge(dataclasses.replace(report, outputs=(boxes, lost)), KNOWN).reason
    assert "fall short" not in judge(dataclasses.replace(report, outputs=(lost, fine)), KNOWN).reason


@given(st.floats(-10, 60), st.floats(-10, 60), st.floats(-10, 60))
def test_of_an_outputs_figures_the_one_farthest_below_its_limit_is_told(whole: float, worst: float, c: float) -> None:
    report = with_output(whole, min(whole, worst), samples=20)
    output = dataclasses.replace(report.outputs[0], centered_sqnr_db=c)
    found = judge(dataclasses.replace(report, outputs=(output,)), KNOWN)
    alone = judge(report, KNOWN)
    told = found.reason.startswith("what varies")
    assert not told or c < 25.0
    assert told or (found.level, found.reason.split(",")[0]) == (alone.level, alone.reason.split(",")[0])


@pytest.mark.parametrize(
    ("hybrid", "level"), [(0.90, Level.OK), (0.897, Level.OK), (0.87, Level.WARNING), (0.5, Level.BROKEN)]
)
def test_the_users_metric_decides_where_it_falls_and_where_it_holds(hybrid: float, level: Level) -> None:
    found = judge(with_output(45.0, 20.0, metric=MetricReport("ap50", 0.9, hybrid, 0.9 - hybrid)), KNOWN)
    assert found.level is level
    assert "ap50" in found.reason


def test_a_small_score_is_told_with_its_own_digits() -> None:
    reason = judge(with_output(45.0, 20.0, metric=MetricReport("m", 4.25e-5, 1e-5, 3.25e-5)), KNOWN).reason
    assert reason == "m falls from 4.25e-05 to 1e-05 (by 76.5%, broken from 10%)"
    assert is_translated(reason)


def test_a_lost_slice_warns_although_the_metric_holds() -> None:
    found = judge(with_output(45.0, -2.0, metric=MetricReport("ap50", 0.9, 0.9, 0.0)), KNOWN)
    assert found.level is Level.WARNING
    assert "although the metric holds" in found.reason


def test_data_outside_the_calibrated_ranges_warns_and_asks_for_samples() -> None:
    found = judge(with_output(45.0, 35.0, drift=(FAR,)), KNOWN)
    assert (found.level, found.actions[0].kind) == (Level.WARNING, "samples")
    assert judge(with_output(45.0, 35.0, drift=(dataclasses.replace(FAR, significant=False),)), KNOWN).level is Level.OK


def test_a_few_values_outside_say_nothing_where_these_samples_came_out_well() -> None:
    few = dataclasses.replace(FAR, share=0.002)
    assert judge(with_output(45.0, 35.0, drift=(few,)), KNOWN).level is Level.OK
    assert judge(with_output(45.0, 25.0, drift=(few,)), KNOWN).level is Level.WARNING


@pytest.mark.parametrize(("db", "level"), [(999.0, Level.OK), (22.0, Level.WARNING), (4.0, Level.BROKEN)])
def test_a_runtime_that_computes_otherwise_is_told(db: float, level: Level) -> None:
    found = judge(with_output(45.0, 35.0), dataclasses.replace(KNOWN, fidelity_db=db))
    assert found.level is level
    assert ("ONNX Runtime" in found.reason) == (level is not Level.OK)


def test_numbers_lost_on_one_side_are_broken() -> None:
    report = with_output(45.0, 35.0)
    figures = dataclasses.replace(report.outputs[0].figures, nonfinite=3)
    report = dataclasses.replace(report, outputs=(dataclasses.replace(report.outputs[0], figures=figures),))
    assert judge(report, KNOWN).reason.endswith("3 NaN or infinite values in one model only")


@pytest.mark.parametrize(("equal", "level"), [(1.0, Level.OK), (0.95, Level.WARNING), (0.3, Level.BROKEN)])
def test_class_numbers_are_judged_by_how_many_are_equal(equal: float, level: Level) -> None:
    report = with_output(-math.inf, -math.inf)
    report = dataclasses.replace(report, outputs=(dataclasses.replace(report.outputs[0], equal=equal),))
    assert judge(report, KNOWN).level is level


def test_a_good_build_whose_samples_leave_the_ranges_says_what_to_do_about_it() -> None:
    few = dataclasses.replace(FAR, share=0.002)
    found = judge(with_output(45.0, 35.0, drift=(few,)), KNOWN)
    assert found.level is Level.OK
    assert [a.kind for a in found.actions] == ["samples"]
    assert found.actions[0].command


@given(st.lists(st.integers(1, 12), min_size=5, max_size=60))
def test_no_sentence_is_cut(lengths: list[int]) -> None:
    """Warnings and reasons come whole, whatever their length; of long names both ends."""
    said = " ".join("w" * n for n in lengths)
    remedy = Remedy(("body",), "float32", said)
    report = with_output(25.0, 9.0, warnings=(said, f"'{'n' * 90}' {said}"))
    told = " ".join(" ".join(printed(report, dataclasses.replace(KNOWN, lint=(remedy,)))).split())
    assert told.count(said) >= 2
    assert "n" * 60 not in told


def test_a_column_of_other_samples_says_so() -> None:
    known = dataclasses.replace(KNOWN, all_8bit=Accuracy(12.0, 3.0, metric=0.5))
    lines = printed(REPORT, known)
    assert any("all 8 bits *" in line for line in lines)
    assert any("* all 8 bits: accuracy on the search's samples" in line for line in lines)
    assert not any("*" in line for line in printed(REPORT, KNOWN))


def test_what_the_cfg_raised_is_not_called_by_design() -> None:
    layers = tuple(
        dataclasses.replace(x, precision=p) for x, p in zip(REPORT.layers, ("float32", "float16"), strict=False)
    )
    report = dataclasses.replace(REPORT, layers=layers)
    known = dataclasses.replace(KNOWN, by_design=frozenset({layers[0].name}))
    told = " ".join(printed(report, known))
    assert f"1 layer stays float by design: 1 {layers[0].op}" in told
    assert f"1 layer has more bits by the cfg: 1 {layers[1].op}" in told


def test_a_good_build_needs_nothing_but_other_samples() -> None:
    (action,) = judge(with_output(45.0, 35.0), KNOWN).actions
    assert (action.kind, action.command) == ("nothing", "")
    (action,) = judge(with_output(45.0, 35.0, calibration_data=True), KNOWN).actions
    assert action.command.startswith("hybridq step3 build --dataset")


def test_no_slice_is_claimed_where_none_was_measured() -> None:
    report = with_output(45.0, 45.0)
    whole = dataclasses.replace(report.outputs[0].worst, axis=-1)
    report = dataclasses.replace(report, outputs=(dataclasses.replace(report.outputs[0], worst=whole),))
    judged = judge(report, KNOWN)
    assert judged.reason == "every output keeps 45.0 dB or better"
    assert judged.columns[-1].accuracy.worst_sqnr_db is None


def test_a_slice_is_no_worst_one_that_is_better_than_the_worst_output() -> None:
    assert judge(with_output(45.0, 48.0), KNOWN).reason == "every output keeps 45.0 dB or better"
    assert "its worst slice 35.0 dB" in judge(with_output(45.0, 35.0), KNOWN).reason


def test_outputs_that_are_floats_are_called_so() -> None:
    assert judge(with_output(math.inf, math.inf), KNOWN).reason == "every output equals float's"


def test_what_a_search_measured_stands_beside() -> None:
    known = dataclasses.replace(KNOWN, all_8bit=Accuracy(12.0, 3.0, metric=0.5), high_fraction=0.1)
    columns = judge(REPORT, known).columns
    assert [c.model for c in columns] == ["float", "all 8 bits", "this build"]
    assert columns[1].accuracy.sqnr_db == 12.0
    assert columns[2].high_fraction == 0.1
    assert columns[2].accuracy.sqnr_db == min(o.sqnr_db for o in REPORT.outputs)


def test_what_step1_left_above_8_bits_is_not_called_all_8_bits() -> None:
    known = dataclasses.replace(KNOWN, all_8bit=Accuracy(12.0, 3.0), left_high=0.207)
    column = judge(REPORT, known).columns[1]
    assert (column.model, column.high_fraction) == ("step1's own", 0.207)


def test_long_names_are_cut_in_the_middle() -> None:
    assert short("/model/a/very/long/name/Conv_output_0", 15) == "/model/…utput_0"
    assert len(short("x" * 99, 30)) == 30
    assert short("short", 5) == "short"


@pytest.mark.parametrize(
    "known", [KNOWN, dataclasses.replace(KNOWN, by_design=frozenset(f"{'n' * 200}{i}" for i in range(30)))]
)
def test_the_terminal_is_told_in_25_lines_of_100_columns(known: Known) -> None:
    layers = tuple(dataclasses.replace(REPORT.layers[i % 4], name=f"{'n' * 200}{i}", op="O" * 30) for i in range(80))
    metric = MetricReport("m" * 60, 0.9, 0.5, 0.4)
    report = with_output(25.0, 9.0, layers=layers, metric=metric, drift=(FAR,), warnings=("w" * 300,) * 9)
    text = io.StringIO()
    print_report(report, Console(file=text, width=240, color_system=None), judge(report, known))
    lines = text.getvalue().splitlines()
    told = [line for line in lines if not line.startswith("   hybridq ")]
    assert max(map(len, told)) <= COLUMNS
    assert sum(max(1, math.ceil(len(line) / COLUMNS)) for line in lines) <= LINES
    assert any("30 layers stay float by design" in line for line in lines) == bool(known.by_design)
    assert lines[-1].startswith("   hybridq ")  # the next commands come last


def _chain(seed: int) -> onnx.ModelProto:
    """Eight convolutions with Relu between them, 4 channels of 8x8."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for i in range(8):
        weights.append(numpy_helper.from_array(rng.normal(0, 0.28, (4, 4, 3, 3)).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"conv{i}"], f"c{i}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{i}"], [f"relu{i}"], f"r{i}"))
        last = f"relu{i}"
    nodes.append(helper.make_node("Conv", [last, "w0"], ["out"], "last", pads=[1, 1, 1, 1]))
    inputs, outputs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 8, 8])] for n in ("x", "out"))
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 20))])
def test_a_fault_in_one_layer_tops_the_list_and_is_named_first(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(_chain(seed), "chain.onnx")
    rng = np.random.default_rng(seed)
    feeds = [{"x": rng.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(4)]
    hybridq.step1("chain.onnx", feeds, "build", dtype="uint8", threads=1)
    layer = f"relu{rng.integers(0, 8)}"
    entry = next(row for row in hybridq.list("build") if row["name"] == layer)
    scale = 64 * (entry["max"] - entry["min"]) / 255
    hybridq.set("build", layer, params={"scale": f"{scale:.6g}"})
    hybridq.step2("build", threads=1)
    found = hybridq.step3("build", feeds, threads=1, seconds=0)
    alone = {x.name: x.individual.sqnr_db for x in found.report.layers if x.individual}
    assert min(alone, key=lambda name: alone[name]) == layer
    assert found.verdict.level is not Level.OK
    first = found.verdict.actions[0]
    assert first.layers == (layer,)
    assert first.command == f"hybridq unset build {layer}"
    hybridq.unset("build", layer)
    hybridq.step2("build", threads=1)
    mended = hybridq.step3("build", feeds, threads=1, seconds=0).report
    assert mended.outputs[0].sqnr_db > found.report.outputs[0].sqnr_db + 6


def test_times_of_a_board_are_marked_as_this_machines() -> None:
    timed = dataclasses.replace(REPORT, timing=Timing(2.0, 1.0, 2.0, 1.9, 2.1, 9, 1))
    lines = printed(timed, dataclasses.replace(KNOWN, board="rknn2"))
    assert any(line.startswith("  PC time, 1 thread") for line in lines)
    assert any("float and hybrid for rknn2, on" in line for line in lines)
    assert any("ONNX Runtime on this machine; rknn2 takes its own" in line for line in lines)
    told = judge(timed, dataclasses.replace(KNOWN, board="rknn2")).to_json()["columns"]
    assert [(c["timed_on"], c["board"]) for c in told] == [("ONNX Runtime on this machine", "rknn2")] * 2
    assert not any("PC time" in line for line in printed(timed, KNOWN))


@pytest.mark.parametrize("steady", [True, False])
def test_a_time_that_was_not_steady_is_no_number(steady: bool) -> None:
    timed = dataclasses.replace(REPORT, timing=Timing(1.9, 75.6, 0.03, 0.03, 0.03 if steady else 3.0, 9, 1))
    line = next(line for line in printed(timed, KNOWN) if line.startswith("  time"))
    assert line.split()[3:] == (["1.90", "ms", "75.60", "ms"] if steady else ["not", "steady"] * 2)
    told = page(timed, judge(timed, KNOWN))
    assert not any("steadily" in warning for warning in timed.warnings)
    assert any("run again while the machine is idle" in line for line in printed(timed, KNOWN)) != steady
    assert ("75.60 ms" in told) == steady
    assert ("not measured steadily" in told.split("<script")[0]) != steady
    assert judge(timed, KNOWN).to_json()["columns"][1]["time_ms"] == 75.6
