"""Budgets at the command line: what is asked, what is reached, and what is said of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helpers_cli import Run

from hybridq.cli.search_flags import ENDED, STEP1_LEAVES, headline, missed
from hybridq.search.measuring.joint import Figures
from hybridq.search.search import Budget, SearchResult

if sys.platform != "win32":
    pass

LEFT = STEP1_LEAVES.format(own=0.21234, least=0.213)


class TestBudgets:
    """A budget that cannot be held: everything is written, the flag and the best figure are told, exit code 1."""

    WORDS = ("small.onnx", "--dataset", "dataset.txt", "-o", "new", "--std", "255", "--dtype", "uint8")

    def test_auto(self, run: Run, folder: Path) -> None:
        done = run("auto", *self.WORDS, "--min-sqnr", "90", "--max-high", "0.01", "--json")
        assert done.code == 1
        best = min(done.json["chosen"]["sqnr_db"].values())
        assert done.err.splitlines()[-2:] == [
            f"--min-sqnr 90: not reachable, best {best:.1f} dB within --max-high 0.01",
            "the budget is not held; the best choice that was found is written all the same",
        ]
        assert done.json["feasible"] is False
        assert {"search.json", "hybrid.onnx", "report"} < {p.name for p in Path("new").iterdir()}

    def test_a_proposal(self, run: Run, folder: Path) -> None:
        done = run("step1", *self.WORDS, "--proposal", "--min-sqnr", "90", "--max-high", "0", "--quiet")
        assert done.code == 1
        assert done.err.startswith("--min-sqnr 90: not reachable, best ")
        assert Path("new/search.json").exists()
        assert run("step2", "new").code == 0

    def test_one_that_holds(self, run: Run, folder: Path) -> None:
        done = run("auto", *self.WORDS, "--min-sqnr", "90", "--json")
        assert (done.code, done.json["feasible"]) == (0, True)
        assert "not reachable" not in done.err

    def test_time_ends_a_search_with_the_best_found(self, run: Run, folder: Path) -> None:
        done = run("auto", *self.WORDS, "--time", "0.001", "--json")
        assert (done.code, done.json["budget"]) == (0, {"time": 0.001})
        assert Path("new/hybrid.onnx").exists()
        whole = run("auto", *self.WORDS, "--time", "600", "--force", "--json")
        assert (whole.code, whole.json["budget"]) == (0, {"time": 600})
        assert len(done.json["measured"]) < len(whole.json["measured"])
        assert whole.json["chosen"]["damage"] <= done.json["chosen"]["damage"]
        wrong = run("auto", *self.WORDS, "--time", "0", "--force")
        assert wrong.code != 0
        assert "time" in wrong.err

    def test_a_search_that_gains_nothing_says_so_first(self, run: Run, folder: Path) -> None:
        for command in (("auto", *self.WORDS), ("step1", *self.WORDS, "--proposal", "--force")):
            done = run(*command, "--max-high", "0")
            assert done.code == 0
            assert done.out.splitlines()[0] == "no layer gets more bits: none helps within the budget"

    @pytest.mark.parametrize(("alone", "says"), [([], "time was over"), ([{}], "none helps")])
    def test_a_search_that_had_no_time_does_not_say_that_nothing_helps(self, alone: list[Any], says: str) -> None:
        found = SimpleNamespace(layers={}, content={"budget": {"time": 90.0}, "alone": alone})
        assert says in headline(cast(SearchResult, found))

    def test_flags_without_a_search(self, run: Run, folder: Path) -> None:
        done = run("step1", *self.WORDS, "--min-sqnr", "90")
        assert done.code == 2
        assert "--min-sqnr is for a search: add --proposal." in done.err
        assert not Path("new").exists()

    @pytest.mark.parametrize(
        ("limits", "says"),
        [
            ({"min_sqnr": 60}, ["--min-sqnr 60: not reachable, best 41.2 dB"]),
            ({"min_worst_sqnr": 20}, ["--min-sqnr worst:20: not reachable, best 7.5 dB"]),
            ({"min_speedup": 3}, ["--min-speedup 3: not reachable, best 1.50 times float32"]),
            ({}, []),  # no budget was given
            ({"max_high": 0.15}, [f"--max-high 0.15: not reachable, best 25.0% of the MACs\n  {LEFT}"]),
            ({"max_high": 0.22}, ["--max-high 0.22: not reachable, best 25.0% of the MACs"]),
            ({"max_drop": 0.01}, ["--max-drop 0.01: not reachable, best metric 0.5"]),
            (
                {"min_sqnr": 60, "min_speedup": 3, "max_high": 0.1},
                [
                    "--min-sqnr 60: not reachable, best 41.2 dB within --max-high 0.1",
                    "--min-speedup 3: not reachable, best 1.50 times float32 within --max-high 0.1",
                    f"--max-high 0.1: not reachable, best 25.0% of the MACs\n  {LEFT}",
                ],
            ),
            (
                {"min_speedup": 1.2, "time": 20},
                [f"--min-speedup 1.2: not reachable, {ENDED}"],
            ),
            (
                {"min_sqnr": 30, "min_speedup": 1.2},
                [
                    "--min-sqnr 30 --min-speedup 1.2: not reachable, each by itself holds, all together do not",
                ],
            ),
        ],
    )
    def test_each_flag_is_named(self, limits: dict[str, float], says: list[str]) -> None:
        figures = Figures(1.0, 0.25, {"y": 50.0, "z": 41.23}, {"y": 20.0, "z": 7.5}, 0.5)
        content = {"times": {"speedups": {"a": 1.2, "b": 1.5}}, "all_8bit": {"high": 0.21234}}
        found = SearchResult(False, {}, {}, {}, {}, {}, figures, content)
        assert [str(p) for p in missed(found, Budget(**limits))] == says
        assert missed(replace(found, feasible=True), Budget(**limits)) == []
