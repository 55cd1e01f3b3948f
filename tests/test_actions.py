"""What to do next: what comes first, that it can be done, and that it leads to a new report."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import click
import pytest
from helpers_chinese import is_translated
from helpers_verdict import FAR, KNOWN, REPORT, even, with_output

from hybridq.cli import main
from hybridq.compare import ComparisonReport
from hybridq.compare.results import SliceReport
from hybridq.report import Known, judge
from hybridq.report import actions as actions_module
from hybridq.report.actions import MOST, useful_first
from hybridq.report.advice import Action
from hybridq.report.commands import set_command, unset_command
from hybridq.report.gain import Gain
from hybridq.report.known import Remedy


def test_what_was_forced_on_all_layers_is_left_to_step1_where_none_is_guilty() -> None:
    report = with_output(8.0, 6.0, layers=even(45.0))
    flags = ("--mean", "127.5", "--dtype", "uint8", "--algorithm", "normal")
    first = judge(report, dataclasses.replace(KNOWN, flags=flags)).actions[0]
    assert first.command == "hybridq step1 m.onnx --dataset d.txt -o build --mean 127.5 --merge"
    assert "--dtype and --algorithm" in first.why


@pytest.mark.parametrize(("whole", "first"), [(8.0, "algorithm"), (38.0, "raise")])
def test_a_finding_whose_layers_do_little_alone_comes_first_where_a_slice_is_lost_and_not_where_all_is(
    whole: float, first: str
) -> None:
    lint = dataclasses.replace(KNOWN, lint=(Remedy(("box", "body"), "int16", "they share a step"),))
    assert judge(with_output(whole, 2.0, layers=even(45.0)), lint).actions[0].kind == first


def test_where_no_layer_is_guilty_another_algorithm_comes_first() -> None:
    report = with_output(25.0, 12.0, layers=even(30.0))
    first = judge(report, KNOWN).actions[0]
    assert (first.kind, first.command) == (
        "algorithm",
        "hybridq step1 m.onnx --dataset d.txt -o build --mean 127.5 --algorithm mmse --merge",
    )
    known = dataclasses.replace(KNOWN, recorded=frozenset({"mmse"}))
    assert judge(report, known).actions[0].command == "hybridq set build '*' --algorithm mmse"
    lint = dataclasses.replace(KNOWN, lint=(Remedy(("box", "body"), "int16", "they share a step"),))
    assert judge(report, lint).actions[0].command == "hybridq set build box body int16"
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
    raised = [a for a in judge(with_output(25.0, 1.0, layers=layers), known).actions if a.kind == "raise"]
    assert [set(a.layers) for a in raised] == [{first, second}]


def test_a_finding_within_what_is_raised_gives_the_reason_and_is_no_action_of_its_own() -> None:
    layers = even(45.0)
    worst = dataclasses.replace(layers[0], individual=dataclasses.replace(layers[0].individual, sqnr_db=0.0))  # type: ignore[type-var]
    report = with_output(38.0, -1.0, layers=(worst, *layers[1:]))
    known = dataclasses.replace(
        KNOWN,
        shared={worst.name: (worst.name, layers[1].name)},
        lint=(Remedy((layers[1].name,), KNOWN.wider, f"raise '{layers[1].name}'", cause="a score of 0.98 becomes 0"),),
    )
    first, *others = judge(report, known).actions
    assert set(first.layers) == {worst.name, layers[1].name}
    assert first.cause.endswith("a score of 0.98 becomes 0")
    assert not any(action.kind == "raise" for action in others)


def test_what_brings_next_to_nothing_comes_behind_what_brings_something() -> None:
    little, much = (
        Action("raise", n, (n,), g, n)
        for n, g in (("a", Gain(25.7, "predicted", 2.0)), ("b", Gain(41.0, "predicted", 13.0)))
    )
    cut, slices = Action("cut", "c", (), None, "c"), Action("raise", "d", ("d",), Gain(25.1, "predicted", 9.0), "d")
    report = with_output(25.0, 1.0)
    assert useful_first(report, (little, much, cut)) == (much, cut, little)
    assert useful_first(report, (little, slices)) == (slices, little)
    assert useful_first(report, (little, cut)) == (little, cut)


EVERYTHING = dataclasses.replace(
    KNOWN,
    folder="a folder",
    lint=(Remedy(("a b", "c"), "float32", "they share a step"),),
    joined={"out": ("box", "score")},
)


@pytest.mark.parametrize(
    ("report", "known"),
    [
        (with_output(25.0, 9.0), KNOWN),
        (with_output(25.0, 9.0, drift=(FAR,)), EVERYTHING),
        (with_output(25.0, 9.0, layers=()), EVERYTHING),
        (with_output(40.0, 20.0, layers=()), dataclasses.replace(KNOWN, searched=True)),
        (with_output(40.0, 40.0, calibration_data=True), KNOWN),
    ],
)
def test_the_command_line_takes_every_command(report: ComparisonReport, known: Known) -> None:
    actions = judge(report, known).actions
    assert 1 <= len(actions) <= MOST
    for command in (part for action in actions for part in action.commands.split(" && ") if part):
        program, name, *words = shlex.split(command)
        assert program == "hybridq"
        main.commands[name].make_context(name, words, parent=click.Context(main, **main.context_settings))
    told = [text for action in actions for text in (action.cause, action.why, action.after(actions[0])) if text]
    assert [text for text in told if not is_translated(text)] == []


def test_the_first_action_goes_all_the_way_to_the_next_report() -> None:
    known = dataclasses.replace(KNOWN, compare_flags=("--dataset", "e.txt"))
    first = judge(with_output(25.0, 12.0, layers=even(30.0)), known).actions[0]
    assert first.commands == f"{first.command} && hybridq step2 build && hybridq step3 build --dataset e.txt"
    assert first.cause


def test_other_samples_are_calibrated_on_and_what_calibrated_is_not_calibrated_on_again_as_it_was() -> None:
    other = dataclasses.replace(KNOWN, evaluation="e.txt", flags=("--samples", "8"))
    first = judge(with_output(45.0, 35.0, drift=(FAR,)), other).actions[0]
    assert first.command == "hybridq step1 m.onnx --dataset e.txt -o build --samples 8 --merge"
    first = judge(with_output(45.0, 35.0, drift=(FAR,)), dataclasses.replace(other, evaluation="")).actions[0]
    assert first.command == "hybridq step1 m.onnx --dataset d.txt -o build --merge"


def test_a_few_values_beyond_the_ranges_are_not_samples_of_another_kind() -> None:
    many = tuple(dataclasses.replace(even(45.0)[0], name=f"l{i}") for i in range(20))
    for layers, kind in ((even(45.0), "of another kind"), (many, "hold values that calibration did not see")):
        (first, *_) = judge(with_output(45.0, 35.0, drift=(FAR,), layers=layers), KNOWN).actions
        assert kind in first.cause
        assert "'t' was 0..1 in calibration and is -9..9 here" in first.cause
        assert is_translated(first.cause)


def test_after_other_samples_are_to_blame_nothing_keeps_the_old_ranges() -> None:
    """No layer is raised beside ranges that are wrong, and a search calibrates on the list that was compared."""
    lost = dataclasses.replace(even(45.0)[0].individual, sqnr_db=3.7)  # type: ignore[type-var]
    layers = (dataclasses.replace(even(45.0)[0], individual=lost), *even(45.0)[1:])
    lint = (Remedy(("box", "body"), "int16", "they share a step"),)
    known = dataclasses.replace(KNOWN, evaluation="e.txt", lint=lint, compare_flags=("--dataset", "e.txt"))
    first, *others = judge(with_output(-1.5, -8.4, layers=layers, drift=(FAR,)), known).actions
    assert (first.kind, [a.kind for a in others]) == ("samples", ["search"])
    for action in (first, *others):
        assert "--dataset e.txt" in action.commands
        assert "d.txt" not in action.commands
    assert first.why.endswith("compares on e.txt again: to prove the result, compare on samples that are in neither")
    assert is_translated(first.why)
    alone = judge(
        with_output(-1.5, -8.4, layers=layers, drift=(FAR,)),
        dataclasses.replace(known, flags=("--samples", "8"), evaluation=""),
    ).actions
    assert [a.command for a in alone if "--samples" in a.command] == []


def test_options_that_are_blamed_are_in_no_command() -> None:
    flags = ("--mean", "127.5", "--dtype", "uint8", "--algorithm", "percentile", "--percentile", "99.9")
    known = dataclasses.replace(KNOWN, flags=flags, search_flags=("--dtype", "uint8", "--max-high", "0.1"))
    actions = judge(with_output(8.0, 6.0, layers=even(45.0)), known).actions
    assert [a.kind for a in actions] == ["algorithm", "search"]
    for word in ("--dtype", "--algorithm", "--percentile"):
        assert not any(word in a.commands for a in actions)
    assert "--max-high 0.1" in actions[1].command
    assert "you passed --dtype and --algorithm, so step1" in actions[0].cause
    held = judge(with_output(8.0, 6.0, layers=even(45.0)), dataclasses.replace(known, board="rknn2")).actions
    assert all("--dtype uint8" in a.command for a in held)  # for a board they are not blamed


def test_a_finding_that_measurement_acquits_is_left_out_where_no_gain_is_foreseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lint = dataclasses.replace(KNOWN, lint=(Remedy(("box", "body"), "int16", "they share a step"),))
    actions = judge(with_output(8.0, 2.0, layers=even(45.0)), lint).actions
    assert not any(a.kind == "raise" for a in actions)
    monkeypatch.setattr(actions_module, "_forecast", lambda *_: Gain(30.0, "predicted"))
    foreseen = judge(with_output(8.0, 2.0, layers=even(45.0)), lint).actions
    assert [a.kind for a in foreseen] == ["algorithm", "raise", "search"]
    monkeypatch.undo()
    assert [a.kind for a in judge(with_output(38.0, 2.0, layers=even(45.0)), lint).actions][:1] == ["raise"]


@pytest.mark.parametrize(
    ("op", "outputs", "named"), [("Softmax", 1, True), ("ArgMax", 1, True), ("Conv", 1, False), ("Softmax", 2, False)]
)
def test_agreement_of_classes_is_advised_where_there_are_classes_alone(op: str, outputs: int, named: bool) -> None:
    report = with_output(25.0, 20.0, layers=())
    numbers = dataclasses.replace(report.outputs[0], equal=0.9 if op == "ArgMax" else None)  # integers
    report = dataclasses.replace(report, outputs=(numbers,) * outputs)
    last = dataclasses.replace(REPORT.layers[-1], name=report.outputs[0].name, op=op)
    found = judge(dataclasses.replace(report, layers=(last,)), dataclasses.replace(KNOWN, flags=())).actions
    action = next(a for a in found if a.kind == "metric")
    assert action.command.endswith("--metric agreement") == named
    assert is_translated(action.why)


@pytest.mark.parametrize(
    ("op", "shape", "perhaps"), [("Gemm", (1, 10), True), ("Gemm", (1, 1), False), ("Conv", (1, 10), False)]
)
def test_a_row_of_numbers_may_be_scores_of_classes(op: str, shape: tuple[int, ...], perhaps: bool) -> None:
    report = with_output(25.0, 20.0, layers=())
    report = dataclasses.replace(report, outputs=(dataclasses.replace(report.outputs[0], shape=shape),))
    last = dataclasses.replace(REPORT.layers[-1], name=report.outputs[0].name, op=op)
    found = judge(dataclasses.replace(report, layers=(last,)), dataclasses.replace(KNOWN, flags=())).actions
    action = next(a for a in found if a.kind == "metric")
    assert ("where these numbers are scores" in action.why) == perhaps == action.command.endswith("--metric agreement")
    assert is_translated(action.why)


def test_layers_of_any_names_are_set_and_unset_by_one_command() -> None:
    assert set_command("b", ("x", "y"), "int16") == "hybridq set b x y int16"
    odd = ("x", "a b", "or", "op:Conv", "a*", "(a)", "it's", "-x", "int16")
    for command, name in ((set_command("b", odd, "int16"), "set"), (unset_command("b", odd), "unset")):
        words = shlex.split(command)[1:]
        context = main.make_context("hybridq", words)
        _, inner, rest = main.resolve_command(context, words)
        found = inner.make_context(name, rest).params
        assert found["directory"] == Path("b")
        assert found["selector"] == (*odd, *(["int16"] if name == "set" else []))


@pytest.mark.parametrize(("trimmed", "first"), [(True, "algorithm"), (False, "raise")])
def test_a_layer_that_loses_what_no_reader_hears_is_not_guilty(trimmed: bool, first: str) -> None:
    """SiLU is deaf to how far below zero a value is: step1 ends the range of the Conv before it there."""
    layers = even(45.0)
    alone = dataclasses.replace(layers[0], individual=dataclasses.replace(layers[0].individual, sqnr_db=4.0))  # type: ignore[type-var]
    known = dataclasses.replace(KNOWN, trimmed=frozenset({alone.name} if trimmed else ()))
    found = judge(with_output(25.0, 12.0, layers=(alone, *layers[1:])), known)
    assert found.actions[0].kind == first
    assert found.unheard == ((alone.name,) if trimmed else ())


def test_another_algorithm_than_the_default_one_comes_behind_a_search() -> None:
    kinds = {
        name: [a.kind for a in judge(with_output(25.0, 12.0, layers=even(30.0)), known).actions]
        for name in ("normal", "trimmed")
        for known in [dataclasses.replace(KNOWN, algorithm=name)]
    }
    assert kinds["normal"][:2] == ["algorithm", "search"]
    assert kinds["trimmed"][:2] == ["search", "algorithm"]
    board = dataclasses.replace(
        KNOWN, algorithm="normal", board="rknn2", flags=("--dtype", "int8", "--target", "rknn2")
    )
    assert [a.kind for a in judge(with_output(25.0, 12.0, layers=even(30.0)), board).actions][:2] == kinds["trimmed"][
        :2
    ]


def test_what_entered_the_model_is_told_before_what_follows_from_it() -> None:
    entered = dataclasses.replace(FAR, tensor="x", layer="", share=0.1)
    (first, *_) = judge(with_output(45.0, 35.0, drift=(FAR, entered, FAR), layers=even(45.0)), KNOWN).actions
    assert first.cause.endswith("'x' was 0..1 in calibration and is -9..9 here, and 2 more tensors left their ranges")
    assert is_translated(first.cause)


@pytest.mark.parametrize(("centered", "said"), [(22.0, "where these numbers are scores"), (5.0, "as coordinates do")])
def test_numbers_that_hardly_vary_about_their_mean_are_no_scores_of_classes(centered: float, said: str) -> None:
    """Landmarks keep their order: which number is the largest says nothing of them."""
    report = with_output(25.0, 20.0, layers=(), samples=20)
    output = dataclasses.replace(report.outputs[0], shape=(1, 10), centered_sqnr_db=centered)
    last = dataclasses.replace(REPORT.layers[-1], name=output.name, op="Gemm")
    report = dataclasses.replace(report, outputs=(output,), layers=(last,))
    action = next(a for a in judge(report, dataclasses.replace(KNOWN, flags=())).actions if a.kind == "metric")
    assert said in action.why
    assert action.command.endswith("--metric agreement") == (centered == 22.0)
    assert is_translated(action.why)


@pytest.mark.parametrize(
    ("shapes", "parts", "layout"),
    [
        ([(1, 200, 4), (1, 200, 2)], [], "ssd"),
        ([(1, 200, 2), (1, 200, 4)], [], "ssd"),
        ([(1, 200, 4), (1, 200, 4)], [], ""),
        ([(1, 200, 4), (1, 100, 2)], [], ""),
        ([(1, 84, 200)], [(0, 4), (4, 84)], "yolov8"),
        ([(1, 84, 200)], [], ""),  # scores of a sequence, perhaps
        ([(1, 84, 40)], [(0, 4), (4, 84)], ""),
    ],
)
def test_boxes_are_judged_by_how_many_are_found_again(
    shapes: list[tuple[int, ...]], parts: list[tuple[int, int]], layout: str
) -> None:
    report = with_output(25.0, 20.0, layers=())
    slices = tuple(SliceReport(1, start, stop, 25.0) for start, stop in parts)
    outputs = [dataclasses.replace(report.outputs[0], name=f"o{i}", shape=s) for i, s in enumerate(shapes)]
    outputs = [dataclasses.replace(o, slices=slices) for o in outputs]
    found = judge(dataclasses.replace(report, outputs=tuple(outputs)), dataclasses.replace(KNOWN, flags=())).actions
    action = next(a for a in found if a.kind == "metric")
    assert action.command.endswith(f"--metric boxes:{layout}") if layout else "boxes" not in action.command
    assert is_translated(action.why)


def test_where_none_stands_out_those_that_no_reader_hears_are_not_counted() -> None:
    low = dataclasses.replace(even(45.0)[0], individual=dataclasses.replace(even(45.0)[0].individual, sqnr_db=4.0))  # type: ignore[type-var]
    report = with_output(15.0, 12.0, layers=(low, *even(45.0)[1:]))
    cause = judge(report, dataclasses.replace(KNOWN, trimmed=frozenset({low.name}))).actions[0].cause
    assert "(none that its readers hear is below 20.0 dB alone)" in cause
    assert is_translated(cause)
    assert "(none is below 20.0 dB alone)" in judge(with_output(15.0, 12.0, layers=even(45.0)), KNOWN).actions[0].cause
