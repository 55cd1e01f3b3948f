"""The verdict: what decides, what never does, and that what it says to do next can be done and names the culprit."""

from __future__ import annotations

import dataclasses
import io
import math
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
import qdq_models
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

import hybridq
from hybridq.cli import main
from hybridq.compare import ComparisonReport, Drift, Inside, LayerReport, MetricReport, compare
from hybridq.report import Known, Level, judge, print_report
from hybridq.report.actions import MOST, Action, Gain, useful_first
from hybridq.report.commands import set_command
from hybridq.report.known import Accuracy, Remedy
from hybridq.report.terminal import COLUMNS, LINES
from hybridq.report.words import short

STORED = {"x": (-4.0, 4.0), "stem": (0.0, 12.0), "body": (-30.0, 30.0), "box": (-3000.0, 3000.0), "score": (-3.0, 3.0)}
FAR = Drift("t", "stem", 0.0, 1.0, -9.0, 9.0, 0.5, 8.0, True)
KNOWN = Known(folder="build", model="m.onnx", dataset="d.txt", algorithm="normal", flags=("--mean", "127.5"))


def _measured() -> ComparisonReport:
    model = qdq_models.two_heads()
    hybrid = qdq_models.quantized(model, STORED, ("stem.w", "body.w"))
    return compare(model, hybrid, qdq_models.samples(), inside=Inside(qdq_models.pairs()), threads=1, seconds=0)


REPORT = _measured()


def _with(whole: float, worst: float, cosine: float = 0.9, **more: Any) -> ComparisonReport:
    """The report with one float output of these figures."""
    output = REPORT.outputs[0]
    figures = dataclasses.replace(output.figures, sqnr_db=whole, cosine=cosine)
    changed = dataclasses.replace(output, sqnr_db=whole, worst_sqnr_db=worst, figures=figures)
    return dataclasses.replace(REPORT, outputs=(changed,), **{"warnings": (), **more})


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
    assert judge(_with(whole, worst), KNOWN).level is level


@given(st.floats(-1, 1), st.floats(-10, 60), st.floats(-10, 60))
def test_the_cosine_never_decides(cosine: float, whole: float, worst: float) -> None:
    found = [judge(_with(whole, min(whole, worst), c), KNOWN) for c in (cosine, 1.0)]
    assert (found[0].level, found[0].reason) == (found[1].level, found[1].reason)


@given(st.floats(-10, 60), st.floats(-10, 60), st.floats(0, 30))
def test_less_noise_is_never_judged_worse(whole: float, worst: float, gain: float) -> None:
    before, after = (judge(_with(whole + g, worst + g), KNOWN).level for g in (0.0, gain))
    assert list(Level).index(after) <= list(Level).index(before)


@pytest.mark.parametrize(
    ("hybrid", "level"), [(0.90, Level.OK), (0.897, Level.OK), (0.87, Level.WARNING), (0.5, Level.BROKEN)]
)
def test_the_users_metric_decides_where_it_falls_and_where_it_holds(hybrid: float, level: Level) -> None:
    found = judge(_with(45.0, 20.0, metric=MetricReport("ap50", 0.9, hybrid, 0.9 - hybrid)), KNOWN)
    assert found.level is level
    assert "ap50" in found.reason


def test_a_small_score_is_told_with_its_own_digits() -> None:
    reason = judge(_with(45.0, 20.0, metric=MetricReport("m", 4.25e-5, 1e-5, 3.25e-5)), KNOWN).reason
    assert reason == "m falls from 4.25e-05 to 1e-05"


def test_a_lost_slice_warns_although_the_metric_holds() -> None:
    found = judge(_with(45.0, -2.0, metric=MetricReport("ap50", 0.9, 0.9, 0.0)), KNOWN)
    assert found.level is Level.WARNING
    assert "although the metric holds" in found.reason


def test_data_outside_the_calibrated_ranges_warns_and_asks_for_samples() -> None:
    found = judge(_with(45.0, 35.0, drift=(FAR,)), KNOWN)
    assert (found.level, found.actions[0].kind) == (Level.WARNING, "samples")
    assert judge(_with(45.0, 35.0, drift=(dataclasses.replace(FAR, significant=False),)), KNOWN).level is Level.OK


def test_a_few_values_outside_say_nothing_where_these_samples_came_out_well() -> None:
    few = dataclasses.replace(FAR, share=0.002)
    assert judge(_with(45.0, 35.0, drift=(few,)), KNOWN).level is Level.OK
    assert judge(_with(45.0, 25.0, drift=(few,)), KNOWN).level is Level.WARNING


@pytest.mark.parametrize(("db", "level"), [(999.0, Level.OK), (22.0, Level.WARNING), (4.0, Level.BROKEN)])
def test_a_runtime_that_computes_otherwise_is_told(db: float, level: Level) -> None:
    found = judge(_with(45.0, 35.0), dataclasses.replace(KNOWN, fidelity_db=db))
    assert found.level is level
    assert ("ONNX Runtime" in found.reason) == (level is not Level.OK)


def test_numbers_lost_on_one_side_are_broken() -> None:
    report = _with(45.0, 35.0)
    figures = dataclasses.replace(report.outputs[0].figures, nonfinite=3)
    report = dataclasses.replace(report, outputs=(dataclasses.replace(report.outputs[0], figures=figures),))
    assert judge(report, KNOWN).reason.endswith("3 NaN or infinite values in one model only")


@pytest.mark.parametrize(("equal", "level"), [(1.0, Level.OK), (0.95, Level.WARNING), (0.3, Level.BROKEN)])
def test_class_numbers_are_judged_by_how_many_are_equal(equal: float, level: Level) -> None:
    report = _with(-math.inf, -math.inf)
    report = dataclasses.replace(report, outputs=(dataclasses.replace(report.outputs[0], equal=equal),))
    assert judge(report, KNOWN).level is level


def _printed(report: ComparisonReport, known: Known) -> list[str]:
    text = io.StringIO()
    print_report(report, Console(file=text, width=240, color_system=None), judge(report, known))
    return text.getvalue().splitlines()


def test_a_good_build_whose_samples_leave_the_ranges_says_what_to_do_about_it() -> None:
    few = dataclasses.replace(FAR, share=0.002)
    found = judge(_with(45.0, 35.0, drift=(few,)), KNOWN)
    assert found.level is Level.OK
    assert [a.kind for a in found.actions] == ["samples"]
    assert found.actions[0].command


@given(st.lists(st.integers(1, 12), min_size=5, max_size=60))
def test_no_sentence_is_cut(lengths: list[int]) -> None:
    """Warnings and reasons come whole, whatever their length; of long names both ends."""
    said = " ".join("w" * n for n in lengths)
    remedy = Remedy(("body",), "float32", said)
    report = _with(25.0, 9.0, warnings=(said, f"'{'n' * 90}' {said}"))
    told = " ".join(" ".join(_printed(report, dataclasses.replace(KNOWN, lint=(remedy,)))).split())
    assert told.count(said) >= 2
    assert "n" * 60 not in told


def test_a_column_of_other_samples_says_so() -> None:
    known = dataclasses.replace(KNOWN, all_8bit=Accuracy(12.0, 3.0, 0.5))
    lines = _printed(REPORT, known)
    assert any("all 8 bits *" in line for line in lines)
    assert any("* all 8 bits: accuracy on the search's samples" in line for line in lines)
    assert not any("*" in line for line in _printed(REPORT, KNOWN))


def test_what_the_cfg_raised_is_not_called_by_design() -> None:
    layers = tuple(
        dataclasses.replace(x, precision=p) for x, p in zip(REPORT.layers, ("float32", "float16"), strict=False)
    )
    report = dataclasses.replace(REPORT, layers=layers)
    known = dataclasses.replace(KNOWN, by_design=frozenset({layers[0].name}))
    told = " ".join(_printed(report, known))
    assert f"1 layer stays float by design: 1 {layers[0].op}" in told
    assert f"1 layer has more bits by the cfg: 1 {layers[1].op}" in told


def test_a_good_build_needs_nothing_but_other_samples() -> None:
    (action,) = judge(_with(45.0, 35.0), KNOWN).actions
    assert (action.kind, action.command) == ("nothing", "")
    (action,) = judge(_with(45.0, 35.0, calibration_data=True), KNOWN).actions
    assert action.command.startswith("hybridq step3 build --dataset")


def _even(least: float) -> tuple[LayerReport, ...]:
    """Layers in 8 bits of which none stands out."""
    return tuple(
        dataclasses.replace(x, precision="uint8", individual=dataclasses.replace(x.entire, sqnr_db=least + i))  # type: ignore[type-var]
        for i, x in enumerate(REPORT.layers)
    )


def test_what_was_forced_on_all_layers_is_left_to_step1_where_none_is_guilty() -> None:
    report = _with(8.0, 6.0, layers=_even(45.0))
    flags = ("--mean", "127.5", "--dtype", "uint8", "--algorithm", "normal")
    first = judge(report, dataclasses.replace(KNOWN, flags=flags)).actions[0]
    assert first.command == "hybridq step1 m.onnx --dataset d.txt -o build --mean 127.5 --merge"
    assert "--dtype and --algorithm" in first.why


@pytest.mark.parametrize(("whole", "first"), [(8.0, "algorithm"), (38.0, "raise")])
def test_a_finding_whose_layers_do_little_alone_comes_first_where_a_slice_is_lost_and_not_where_all_is(
    whole: float, first: str
) -> None:
    lint = dataclasses.replace(KNOWN, lint=(Remedy(("box", "body"), "int16", "they share a step"),))
    assert judge(_with(whole, 2.0, layers=_even(45.0)), lint).actions[0].kind == first


def test_where_no_layer_is_guilty_another_algorithm_comes_first() -> None:
    report = _with(25.0, 12.0, layers=_even(30.0))
    first = judge(report, KNOWN).actions[0]
    assert (first.kind, first.command) == (
        "algorithm",
        "hybridq step1 m.onnx --dataset d.txt -o build --mean 127.5 --algorithm mmse --merge",
    )
    known = dataclasses.replace(KNOWN, recorded=frozenset({"mmse"}))
    assert judge(report, known).actions[0].command == "hybridq set build '*' --algorithm mmse"
    lint = dataclasses.replace(KNOWN, lint=(Remedy(("box", "body"), "int16", "they share a step"),))
    assert judge(report, lint).actions[0].command == "hybridq set build 'box or body' int16"
    front = dataclasses.replace(KNOWN, front=(Remedy(("stem",), "int16", "raise 'stem'", 31.0),), searched=True)
    gain = judge(report, front).actions[0].gain
    assert gain is not None
    assert (gain.sqnr_db, gain.by) == (31.0, "measured")


def test_layers_that_share_parameters_are_raised_as_one_and_once() -> None:
    damaged = [dataclasses.replace(x, precision="uint8", individual=x.entire) for x in REPORT.layers]
    lost = dataclasses.replace(damaged[0].entire, sqnr_db=-3.0)  # type: ignore[type-var]
    layers = (dataclasses.replace(damaged[0], individual=lost), *damaged[1:])
    first, second = (x.name for x in layers[:2])
    shared = dict.fromkeys((first, second), (first, second))
    known = dataclasses.replace(KNOWN, shared=shared, lint=(Remedy((second, first), "float32", "raise 2 layers"),))
    raised = [a for a in judge(_with(25.0, 1.0, layers=layers), known).actions if a.kind == "raise"]
    assert [set(a.layers) for a in raised] == [{first, second}]


def test_a_finding_within_what_is_raised_gives_the_reason_and_is_no_action_of_its_own() -> None:
    layers = _even(45.0)
    worst = dataclasses.replace(layers[0], individual=dataclasses.replace(layers[0].individual, sqnr_db=0.0))  # type: ignore[type-var]
    report = _with(38.0, -1.0, layers=(worst, *layers[1:]))
    known = dataclasses.replace(
        KNOWN,
        shared={worst.name: (worst.name, layers[1].name)},
        lint=(Remedy((layers[1].name,), KNOWN.wider, f"raise '{layers[1].name}': a score of 0.98 becomes 0"),),
    )
    first, *others = judge(report, known).actions
    assert set(first.layers) == {worst.name, layers[1].name}
    assert first.why.endswith("a score of 0.98 becomes 0")
    assert not any(action.kind == "raise" for action in others)


def test_what_brings_next_to_nothing_comes_behind_what_brings_something() -> None:
    little, much = (
        Action("raise", n, (n,), g, n)
        for n, g in (("a", Gain(25.7, "predicted", 2.0)), ("b", Gain(41.0, "predicted", 13.0)))
    )
    cut, slices = Action("cut", "c", (), None, "c"), Action("raise", "d", ("d",), Gain(25.1, "predicted", 9.0), "d")
    report = _with(25.0, 1.0)
    assert useful_first(report, (little, much, cut)) == (much, cut, little)
    assert useful_first(report, (little, slices)) == (slices, little)
    assert useful_first(report, (little, cut)) == (little, cut)


def test_no_slice_is_claimed_where_none_was_measured() -> None:
    report = _with(45.0, 45.0)
    whole = dataclasses.replace(report.outputs[0].worst, axis=-1)
    report = dataclasses.replace(report, outputs=(dataclasses.replace(report.outputs[0], worst=whole),))
    judged = judge(report, KNOWN)
    assert judged.reason == "every output keeps 45.0 dB or better"
    assert judged.columns[-1].accuracy.worst_sqnr_db is None


def test_what_a_search_measured_stands_beside() -> None:
    known = dataclasses.replace(KNOWN, all_8bit=Accuracy(12.0, 3.0, 0.5), high_fraction=0.1)
    columns = judge(REPORT, known).columns
    assert [c.model for c in columns] == ["float", "all 8 bits", "this build"]
    assert columns[1].accuracy.sqnr_db == 12.0
    assert columns[2].high_fraction == 0.1
    assert columns[2].accuracy.sqnr_db == min(o.sqnr_db for o in REPORT.outputs)


EVERYTHING = dataclasses.replace(
    KNOWN,
    folder="a folder",
    lint=(Remedy(("a b", "c"), "float32", "they share a step"),),
    joined={"out": ("box", "score")},
)


@pytest.mark.parametrize(
    ("report", "known"),
    [
        (_with(25.0, 9.0), KNOWN),
        (_with(25.0, 9.0, drift=(FAR,)), EVERYTHING),
        (_with(25.0, 9.0, layers=()), EVERYTHING),
        (_with(40.0, 20.0, layers=()), dataclasses.replace(KNOWN, searched=True)),
        (_with(40.0, 40.0, calibration_data=True), KNOWN),
    ],
)
def test_the_command_line_takes_every_command(report: ComparisonReport, known: Known) -> None:
    actions = judge(report, known).actions
    assert 1 <= len(actions) <= MOST
    for command in (part for action in actions for part in action.command.split(" && ") if part):
        program, name, *words = shlex.split(command)
        assert program == "hybridq"
        main.commands[name].make_context(name, words, parent=click.Context(main, **main.context_settings))


def test_names_that_a_selector_would_read_otherwise_get_commands_of_their_own() -> None:
    assert set_command("b", ("x", "y"), "int16") == "hybridq set b 'x or y' int16"
    for odd in ("a b", "or", "op:Conv", "a*", "(a)"):
        assert set_command("b", ("x", odd), "int16").count("hybridq set") == 2


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
    report = _with(25.0, 9.0, layers=layers, metric=metric, drift=(FAR,), warnings=("w" * 300,) * 9)
    text = io.StringIO()
    print_report(report, Console(file=text, width=240, color_system=None), judge(report, known))
    lines = text.getvalue().splitlines()
    told = [line for line in lines if not line.startswith("   hybridq ")]
    assert max(map(len, told)) <= COLUMNS
    assert sum(max(1, math.ceil(len(line) / COLUMNS)) for line in lines) <= LINES
    assert any("30 layers stay float by design" in line for line in lines) == bool(known.by_design)
    assert lines[-1].startswith("   hybridq ")  # the next commands come last


# -- a fault injected into one layer -------------------------------------------------------------------------------


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
