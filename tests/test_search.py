"""The search against brute force on measured models, and what is kept on disk."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import numpy as np
import pytest
from helpers_finding import SCHEMA, _reference, find
from helpers_search import small_case
from random_graphs import Case

from hybridq.compare import Runs, compare
from hybridq.errors import ConfigError, DatasetError
from hybridq.execution.pool import Pool
from hybridq.execution.workers import Workers
from hybridq.graph import runtime
from hybridq.quant.dtypes import Precision
from hybridq.search.choice import Choice, Figures, Tuning
from hybridq.search.judge import Judge
from hybridq.search.measuring.joint import Bench
from hybridq.search.search import Budget

F32 = Precision.FLOAT32


class TestSearch:
    @pytest.mark.parametrize("seed", range(3))
    def test_within_half_a_decibel_of_brute_force(self, seed: int) -> None:
        case, feeds = small_case(seed, 3)
        result = find(case, feeds, Budget(max_high=0.4))
        question = result.content
        bench = Bench(case.model, case.weights, case.calibrated, _reference(case, feeds))

        groups = [g for g in case.model.groups if any(not case.model.layer[n].float_only for n in g.layers)]
        assert len(groups) <= 8
        best = min(
            f.damage
            for chosen in itertools.product((False, True), repeat=len(groups))
            for f in [
                bench.measure(Choice({n: F32 for g, x in zip(groups, chosen, strict=True) if x for n in g.layers}))
            ]
            if f.high <= 0.4
        )
        assert result.figures.damage <= best * 10**0.05, question["chosen"]

    def test_content_fits_the_schema_and_says_why(self) -> None:
        case, feeds = small_case(1)
        result = find(case, feeds, Budget(max_high=0.5))
        jsonschema.validate(result.content, SCHEMA)
        json.loads(json.dumps(result.content))
        chosen = result.content["chosen"]
        assert chosen["high_fraction"] <= 0.5
        assert set(chosen["layers"]) == set(result.layers)
        assert all(" dB -> " in reason and reason.endswith(" dB") for reason in result.reasons.values())
        assert result.content["chosen"]["time_percent"].keys() == result.reasons.keys()

    def test_what_was_measured_is_not_measured_again(self) -> None:
        case, feeds = small_case(2)
        kept: list[dict[str, Any]] = []
        first = find(case, feeds, save=lambda content: kept.append(json.loads(json.dumps(content))))
        middle = kept[len(kept) // 2]
        jsonschema.validate(middle, SCHEMA)
        again = find(case, feeds, previous=middle)
        assert again.content["measured"] == first.content["measured"]
        assert again.layers == first.layers
        same = find(case, feeds, previous=json.loads(json.dumps(first.content)), save=pytest.fail)
        assert same.content == first.content

    @pytest.mark.parametrize(
        "damage", [{"measured": {"": 1}}, {"alone": {"ranges": "x"}}, {"times": {"low_us": {}}}, []]
    )
    def test_a_damaged_file_is_measured_anew(self, damage: Any) -> None:
        case, feeds = small_case(1, 3)
        whole = find(case, feeds)
        again = find(case, feeds, previous={**whole.content, **damage} if damage else damage)
        assert again.layers == whole.layers
        assert again.content["measured"] == whole.content["measured"]

    def test_parallel_equals_serial(self) -> None:
        case, feeds = small_case(3)
        one = find(case, feeds).content
        for executor in (ThreadPoolExecutor(2), Workers(2)):
            with executor:
                two = find(case, feeds, pool=Pool(executor, 2, 1)).content
            assert one["chosen"]["layers"] == two["chosen"]["layers"]
            assert one["measured"] == two["measured"]
            assert one["alone"] == two["alone"]

    def test_all_in_8_bits_is_told_centered_too(self) -> None:
        """What varies over the samples, by an independent computation, over the noise that the whole's SQNR tells."""
        case, feeds = small_case(4)
        told = find(case, feeds).content["all_8bit"]
        session = runtime.session(case.proto, threads=1)
        names = [o.name for o in session.get_outputs()]
        runs = zip(*(runtime.run(session, feed, names) for feed in feeds), strict=True)
        for name, values in zip(names, runs, strict=True):
            x = np.stack(values).astype(np.float64)
            varies = 10 * np.log10(np.var(x, axis=0).sum() / np.mean(np.square(x), axis=0).sum())
            assert told["centered_sqnr_db"][name] == pytest.approx(told["sqnr_db"][name] + varies, abs=1e-3)

    def test_cheapest_that_is_good_enough(self) -> None:
        case, feeds = small_case(4)
        start = min(find(case, feeds).content["all_8bit"]["sqnr_db"].values())
        result = find(case, feeds, Budget(min_sqnr=start + 3))
        assert result.feasible
        assert result.figures.least >= start + 3
        assert result.figures.high < 1

    def test_what_plain_8_bits_hold_raises_and_changes_nothing(self) -> None:
        case, feeds = small_case(4)
        plain = Bench(case.model, case.weights, case.calibrated, _reference(case, feeds)).measure(Choice())
        for budget in (Budget(min_sqnr=plain.least - 0.1), Budget(min_worst_sqnr=plain.least_worst - 0.1)):
            result = find(case, feeds, budget)
            assert (result.feasible, result.layers, result.tuning, result.figures) == (True, {}, Tuning(), plain)
            jsonschema.validate(result.content, SCHEMA)

    def test_figures_are_those_of_the_comparison(self) -> None:
        case, feeds = small_case(4)
        bench = Bench(case.model, case.weights, case.calibrated, _reference(case, feeds))
        figures = bench.measure(Choice())
        report = compare(case.proto, bench.build(Choice()), feeds, runs=Runs(threads=1))
        assert figures.sqnr_db == {o.name: pytest.approx(o.sqnr_db, abs=1e-6) for o in report.outputs}
        assert figures.worst_sqnr_db == {o.name: pytest.approx(o.worst_sqnr_db, abs=1e-6) for o in report.outputs}

    def test_a_slice_lost_within_a_budget_that_holds_is_warned_of(self) -> None:
        figures = Figures(1.0, 0.0, {"y": 45.0, "z": 45.0, "w": 9.0}, {"y": 9.9, "z": 10.1, "w": 5.0})
        said, other = Judge(Budget(min_sqnr=9)).lost_slices(figures, True)
        assert said.startswith("y has 45.0 dB as a whole, but its worst slice has 9.9 dB")
        assert other.startswith("w has 9.0 dB as a whole")
        assert Judge(Budget(min_sqnr=60)).lost_slices(figures, False) == []
        assert Judge(Budget()).lost_slices(figures, True) == []

    def test_infeasible_says_the_best_that_can_be_reached(self) -> None:
        case, feeds = small_case(5)
        result = find(case, feeds, Budget(min_sqnr=150, max_high=0.3))
        assert not result.feasible
        assert result.content["feasible"] is False
        assert 0 < result.figures.least < 150
        assert result.figures.high <= 0.3

    def test_metric(self) -> None:
        case, feeds = small_case(6)
        output = case.model.outputs[0]
        true = [float(o[output].mean()) for o in _float_outputs(case, feeds)]

        def closeness(outputs: list[dict[str, np.ndarray]]) -> float:
            return -max(abs(float(o[output].mean()) - t) for o, t in zip(outputs, true, strict=True))

        result = find(case, feeds, Budget(max_drop=1e-4), metric=closeness)
        assert result.feasible
        assert result.figures.metric is not None
        assert result.figures.metric >= -1e-4 - 1e-7

    def test_fewer_bits_where_they_do_as_well(self) -> None:
        case, feeds = small_case(1, 4)
        wide = find(case, feeds, Budget(max_high=0.6), precisions=[Precision.UINT8, F32])
        both = find(case, feeds, Budget(max_high=0.6), precisions=[Precision.UINT8, Precision.INT16, F32])
        assert set(both.layers) == set(wide.layers)
        assert Precision.INT16 in both.layers.values()
        assert both.figures.damage <= 1.02 * wide.figures.damage
        assert both.content["chosen"]["layers"] == {n: str(p) for n, p in both.layers.items()}

    def test_wrong_questions(self) -> None:
        case, feeds = small_case(7)
        with pytest.raises(ConfigError, match="max_drop"):
            find(case, feeds, Budget(max_drop=0.1))
        with pytest.raises(DatasetError):
            find(case, [])
        with pytest.raises(ConfigError, match="have uint8, not int8"):
            find(case, feeds, precisions=[Precision.INT8, F32])
        with pytest.raises(ConfigError, match="no precision above 8 bits"):
            find(case, feeds, precisions=[Precision.UINT8])
        with pytest.raises(ValueError, match="share"):
            Budget(max_high=15)

    def test_speed(self) -> None:
        case, feeds = small_case(8)
        result = find(case, feeds, Budget(min_speedup=0.5))
        assert result.feasible
        assert max(result.content["times"]["speedups"].values()) >= 0.5


def _float_outputs(case: Case, feeds: Any) -> list[dict[str, np.ndarray]]:
    from hybridq.graph.runtime import run, session

    one = session(case.proto, threads=1)
    names = [o.name for o in one.get_outputs()]
    return [dict(zip(names, run(one, f, names), strict=True)) for f in feeds]
