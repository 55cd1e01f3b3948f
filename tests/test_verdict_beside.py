"""What stands beside a figure: its bound, whose it is, what its words mean; and what to do about a slow build."""

from __future__ import annotations

import dataclasses

import pytest
from helpers_chinese import is_translated
from helpers_verdict import KNOWN, REPORT, even, printed, with_output

from hybridq.compare.results import SliceReport, Timing
from hybridq.report import judge
from hybridq.report.known import Accuracy
from hybridq.report.page import page


@pytest.mark.parametrize(
    ("whole", "worst", "centered", "bound"),
    [
        (45.0, 2.0, 40.0, "(broken below 3 dB; 45.0 dB as a whole)"),
        (45.0, 29.0, 40.0, "(good from 30 dB; 45.0 dB as a whole)"),
        (15.0, 35.0, 40.0, "(good from 20 dB)"),
        (5.0, 35.0, 40.0, "(broken below 10 dB)"),
        (45.0, 42.0, 22.0, "(good from 25 dB; 45.0 dB with what all samples share)"),
    ],
)
def test_the_bound_that_an_output_falls_short_of_stands_beside_its_figure(
    whole: float, worst: float, centered: float, bound: str
) -> None:
    report = with_output(whole, worst, samples=20)
    output = dataclasses.replace(report.outputs[0], centered_sqnr_db=centered, slices=())
    reason = judge(dataclasses.replace(report, outputs=(output,)), KNOWN).reason
    assert reason.endswith(f" dB {bound}")
    assert is_translated(reason)
    assert is_translated(bound.strip("()").split(";")[0])


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ([-1.0, 40.0, 35.0], ""),
        ([-1.0, 2.0, 35.0], "; so is [1]"),
        ([2.0, -1.0, 1.0, 0.0, 2.5, 40.0], "; so are [3], [2], [0] and 1 more"),
    ],
)
def test_where_several_slices_are_dead_all_are_counted_and_some_named(figures: list[float], told: str) -> None:
    report = with_output(38.0, -1.0, samples=20)
    slices = tuple(SliceReport(1, i, i + 1, db) for i, db in enumerate(figures))
    beside = (SliceReport(1, 0, 2, -0.5), SliceReport(2, 0, 1, 0.5))  # a part, and another axis
    output = dataclasses.replace(report.outputs[0], slices=(*slices, *beside), worst=slices[figures.index(-1.0)])
    reason = judge(dataclasses.replace(report, outputs=(output,)), KNOWN).reason
    assert reason.endswith(f"38.0 dB as a whole){told}")
    assert is_translated(reason)


def test_a_figure_of_several_outputs_says_whose_it_is() -> None:
    report = with_output(42.4, 27.5, samples=20)
    scores, boxes = (dataclasses.replace(report.outputs[0], name=name) for name in ("scores", "boxes"))
    boxes = dataclasses.replace(boxes, sqnr_db=44.9, worst_sqnr_db=40.0, centered_sqnr_db=13.1)
    both = dataclasses.replace(report, outputs=(scores, boxes))
    lines = printed(both, KNOWN)
    assert [line.split()[-1] for line in lines if "good from" in line and "dB)" not in line] == [
        "scores",
        "scores",
        "boxes",
    ]
    searched = dataclasses.replace(KNOWN, all_8bit=Accuracy.of({"scores": 20.0, "boxes": 9.0}, {}, {}))
    assert "boxes (all 8 bits), scores (this build)" in page(both, judge(both, searched))
    assert not any("of output" in line for line in printed(report, KNOWN))


def test_words_are_explained_where_they_first_stand() -> None:
    meant = "slice: one channel, position or part of an output; centered: signal is what varies over samples"
    told = printed(REPORT, KNOWN)
    assert any(meant in line for line in told)
    flags = ("--dtype", "uint8")
    report = with_output(8.0, 6.0, layers=even(45.0))
    told = printed(report, dataclasses.replace(KNOWN, flags=flags))
    command = next(i for i, line in enumerate(told) if "--merge" in line.split() and "hybridq step1" in line)
    assert "--merge keeps your edits" in " ".join(told[:command])


LATE = Timing(1.0, 1.6, 0.63, 0.6, 0.7, 99, 1)


@pytest.mark.parametrize(
    ("timing", "more", "told"),
    [
        (LATE, {}, True),
        (dataclasses.replace(LATE, high=1.1), {}, False),  # one quarter of the pairs was faster
        (dataclasses.replace(LATE, low=0.3), {}, False),  # not steady
        (None, {}, False),
        (LATE, {"board": "rknn2"}, False),
        (LATE, {"folder": ""}, False),
    ],
)
def test_a_build_that_is_slower_than_float_where_it_runs_says_why_and_what_to_do(
    timing: Timing | None, more: dict[str, str], told: bool
) -> None:
    why = "36 of 74 layers in 8 bits have no integer kernel here (30 Sigmoid, 6 Mul); 9 depthwise Conv run at half"
    known = dataclasses.replace(KNOWN, slow_kernels=why, **more)
    report = dataclasses.replace(REPORT, timing=timing)
    found = judge(report, known).slower
    assert (found is not None) == told
    shown = " ".join(" ".join(printed(report, known)).split())
    assert ("takes 1.59 times as long as float here: 36 of 74 layers" in shown) == told
    assert ("takes 1.59 times" in page(report, judge(report, known))) == told
    if found is not None:
        assert found.command.endswith("--min-speedup 1")
        assert is_translated(found.cause)
        assert is_translated(found.why)


def test_where_a_search_for_time_found_nothing_faster_float_is_advised() -> None:
    known = dataclasses.replace(KNOWN, search_flags=("--min-speedup", "1"))
    found = judge(dataclasses.replace(REPORT, timing=LATE), known).slower
    assert found is not None
    assert not found.command
    assert is_translated(found.why)
