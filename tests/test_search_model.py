"""What the additive model of damage says: knapsack and cut against every set, halves of samples, coarse parts."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from helpers_finding import SCHEMA, _reference, find
from helpers_search import small_case
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Case, random_case

from hybridq.graph import mincut
from hybridq.graph.mincut import source_side
from hybridq.search import work
from hybridq.search.allocation.knapsack import Pairs, hull, solve
from hybridq.search.choice import Choice, Figures
from hybridq.search.measuring.answers import changed
from hybridq.search.measuring.coarse import coarse_damages
from hybridq.search.measuring.joint import Bench
from hybridq.search.measuring.quantizers import sources
from hybridq.search.search import SearchResult
from hybridq.search.work import (
    KEPT,
    LEAST,
    REPAIRING,
    USUAL_SECONDS,
    Deadline,
    Effort,
    Prices,
    TimeUp,
    Work,
    allowed,
    planned,
)


@st.composite
def problems(draw: st.DrawFn, most: int = 12) -> Pairs:
    count = draw(st.integers(1, most))
    numbers = st.floats(0, 10).map(lambda x: round(x, 3))
    ends = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=2 * count))
    ends = sorted({(min(e), max(e)) for e in ends if e[0] != e[1]})
    keys = np.array(ends, np.int64).reshape(-1, 2)
    own, cost, noise = (np.array(draw(st.lists(numbers, min_size=n, max_size=n))) for n in (count, count, len(ends)))
    return Pairs(tuple(f"u{i}" for i in range(count)), own, keys[:, 0], keys[:, 1], noise, cost)


def every_set(count: int) -> list[np.ndarray]:
    return [np.array(bits, bool) for bits in itertools.product((False, True), repeat=count)]


class TestKnapsack:
    @settings(max_examples=60, deadline=None)
    @given(pairs=problems(), share=st.floats(0, 1))
    def test_equals_brute_force(self, pairs: Pairs, share: float) -> None:
        budget = share * float(pairs.cost.sum())
        fits = [x for x in every_set(len(pairs.units)) if pairs.cost[x].sum() <= budget + 1e-12]
        best = min(pairs.damage(x) for x in fits)
        found = solve(pairs, budget, nodes=100_000)
        assert found.gap == 0.0
        assert pairs.cost[found.raised].sum() <= budget + 1e-9
        assert found.damage == pytest.approx(best, abs=1e-7 * max(pairs.total, 1))

    @settings(max_examples=30, deadline=None)
    @given(pairs=problems(10))
    def test_hull_holds_only_what_no_mixture_beats(self, pairs: Pairs) -> None:
        points = hull(pairs)
        assert all(a.cost <= b.cost + 1e-9 and a.damage >= b.damage - 1e-9 for a, b in itertools.pairwise(points))
        sets = every_set(len(pairs.units))
        for price in (0.1, 1.0, 5.0):
            best = min(pairs.damage(x) + price * pairs.cost[x].sum() for x in sets)
            assert min(p.damage + price * p.cost for p in points) == pytest.approx(best, abs=1e-6 * max(1, pairs.total))

    @settings(max_examples=100, deadline=None)
    @given(data=st.data(), count=st.integers(1, 8))
    def test_minimum_cut_equals_brute_force(self, data: st.DataObject, count: int) -> None:
        value = np.array(data.draw(st.lists(st.integers(-20, 20), min_size=count, max_size=count)), float)
        ends = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
        ends = [e for e in ends if e[0] != e[1]]
        keys = np.array(ends, np.int64).reshape(-1, 2)
        sizes = st.lists(st.integers(0, 9), min_size=len(ends), max_size=len(ends))
        weight, back = (np.array(data.draw(sizes), float) for _ in range(2))

        def worth(x: np.ndarray) -> float:
            a, b = x[keys[:, 0]], x[keys[:, 1]]
            return float(value[x].sum() - weight[a & ~b].sum() - back[b & ~a].sum())

        found = source_side(count, value, keys[:, 0], keys[:, 1], weight, back)
        assert worth(found) == pytest.approx(max(map(worth, every_set(count))))


class TestCut:
    @settings(max_examples=60, deadline=None)
    @given(data=st.data(), count=st.integers(1, 14))
    def test_the_library_finds_the_same_sets(self, data: st.DataObject, count: int) -> None:
        pytest.importorskip("maxflow")
        numbers = st.integers(-20, 20)
        value = np.array(data.draw(st.lists(numbers, min_size=count, max_size=count)), float)
        ends = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=24))
        keys = np.array([e for e in ends if e[0] != e[1]], np.int64).reshape(-1, 2)
        costs = st.lists(st.integers(0, 9), min_size=len(keys), max_size=len(keys))
        edges = mincut._Edges(keys[:, 0], keys[:, 1], *(np.array(data.draw(costs), float) for _ in range(2)))
        assert np.array_equal(mincut._by_library(value, edges), mincut._by_dinic(value, edges))

    @settings(max_examples=100, deadline=None)
    @given(data=st.data(), count=st.integers(1, 8))
    def test_what_is_settled_first_changes_no_cut(self, data: st.DataObject, count: int) -> None:
        value = np.array(data.draw(st.lists(st.integers(-20, 20), min_size=count, max_size=count)), float)
        ends = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
        keys = np.array([e for e in ends if e[0] != e[1]], np.int64).reshape(-1, 2)
        costs = st.lists(st.integers(0, 9), min_size=len(keys), max_size=len(keys))
        weight, back = (np.array(data.draw(costs), float) for _ in range(2))
        found = source_side(count, value, keys[:, 0], keys[:, 1], weight, back)
        whole = mincut._by_dinic(value, mincut._Edges(keys[:, 0], keys[:, 1], weight, back))
        assert np.array_equal(found, whole)


class TestWork:
    def test_more_that_may_be_spent_is_more_that_is_measured(self) -> None:
        small, large = (planned(random_case(0).model, 20, s) for s in (60.0, 1.0))
        assert small.samples >= large.samples
        assert small.alone >= large.alone
        assert small.trials >= large.trials

    def test_a_thousand_runs_are_allowed_where_that_is_more_and_what_was_asked_for(self) -> None:
        small, large = (Prices(inference, 0.1, 0.01, 0.01, 0.01) for inference in (0.001, 0.5))
        assert 40 < allowed(small) < 60
        assert allowed(large) == pytest.approx(LEAST * 500 / 60 * allowed(small))
        assert allowed(small, 1.0) == allowed(small)
        assert allowed(small, 600.0) == pytest.approx(10 * allowed(small))

    def test_what_repairs_take_beyond_a_few_seconds_is_not_the_search_s(self) -> None:
        prices = Prices(0.01, 0.1, 0.01, 0.01, 0.01, layer_repairs=100)
        assert allowed(prices, None, 4) == allowed(prices)
        missing = prices.repairs(32) + prices.repairs(8) - REPAIRING
        beyond = prices.around(32) - (1 - KEPT) * USUAL_SECONDS
        assert missing > 0
        assert allowed(prices, None, 32) == pytest.approx(allowed(prices) - missing - max(0.0, beyond))
        assert allowed(prices, None, 10_000) > 0
        assert prices.repairs(8) == 2 * prices.repairs(4)
        assert prices.around(32) > prices.around(16) > prices.around(8)

    def test_prices_grow_with_samples_and_a_graph_of_its_own_costs_more(self) -> None:
        prices = Prices.of(small_case(0)[0].model)
        assert 0 < prices.joint(1) < prices.joint(2)
        assert 0 < prices.alone(1) < prices.alone(2)
        assert prices.alone(1) < prices.alone(1, together=False)

    def test_nothing_is_spent_that_is_not_there(self) -> None:
        effort = Effort(1.0, reserve=0.2)
        effort.spend(0.7)
        with pytest.raises(TimeUp):
            effort.spend(0.2)
        effort.reserve = 0.0
        effort.spend(0.2)
        assert effort.spent == pytest.approx(0.9)
        assert Deadline(1e-9).over
        assert not Deadline().over

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
    def test_a_search_that_may_not_go_on_gives_the_best_found(self, share: float, monkeypatch: Any) -> None:
        case, feeds = small_case(3)
        whole = find(case, feeds)
        monkeypatch.setattr(work, "USUAL_RUNS", 0)
        monkeypatch.setattr(work, "USUAL_SECONDS", share * worth(whole, case, feeds))
        monkeypatch.setattr("hybridq.search.search.planned", lambda *_, **__: Work(len(feeds), len(feeds), 100))
        cut, again, resumed = find(case, feeds), find(case, feeds), find(case, feeds, previous=whole.content)
        assert json.dumps(again.content) == json.dumps(cut.content)
        jsonschema.validate(cut.content, SCHEMA)
        measured = [f["damage"] for f in cut.content["measured"].values() if f["high"] <= 0.15]
        assert cut.figures.damage <= cut.content["all_8bit"]["damage"]
        assert cut.figures.damage == min(measured)
        assert len(cut.content["measured"]) < len(whole.content["measured"])
        assert (dict(cut.layers), cut.tuning) == (
            dict(resumed.layers),
            resumed.tuning,
        )  # known or not, it costs the same

    def test_a_clock_ends_a_search_with_the_best_found(self) -> None:
        case, feeds = small_case(3)
        calls = itertools.count()

        class Stop(Deadline):
            @property
            def over(self) -> bool:
                return next(calls) > 40

        result = find(case, feeds, deadline=Stop())
        jsonschema.validate(result.content, SCHEMA)
        measured = [f["damage"] for f in result.content["measured"].values() if f["high"] <= 0.15]
        assert result.figures.damage == min(measured)


def worth(found: SearchResult, case: Case, feeds: list[Any]) -> float:
    """About what a search has spent."""
    prices = Prices.of(case.model)
    return len(found.content["measured"]) * prices.joint(len(feeds)) + len(found.content["alone"]) * prices.alone(4)


class TestCoarse:
    def test_the_damage_of_groups_is_kept_and_the_worst_are_told_apart(self) -> None:
        case, feeds = small_case(2)
        bench = Bench(case.model, case.weights, case.calibrated, _reference(case, feeds))
        plan, weights = bench.plan(Choice())
        found = sources(case.model, plan, weights)
        exact = bench.damages([s.forms for s in found], range(4))
        about = coarse_damages(bench, plan, weights, found, range(4), 10 * len(found))
        same = about == exact
        worst = int(np.argmax(exact))
        assert same[worst]
        assert about.sum() == pytest.approx(exact.sum(), rel=0.3)


class TestHalves:
    def test_a_change_is_believed_where_both_halves_of_the_samples_gain(self) -> None:
        now = Figures(1.0, 0.0, {}, {}, halves=(0.5, 0.5))
        assert Figures(0.9, 0.0, {}, {}, halves=(0.45, 0.45)).clearly_better(now, 0.95)
        assert not Figures(0.9, 0.0, {}, {}, halves=(0.39, 0.51)).clearly_better(now, 0.95)
        assert not Figures(0.98, 0.0, {}, {}, halves=(0.49, 0.49)).clearly_better(now, 0.95)

    def test_halves_are_the_whole(self) -> None:
        case, feeds = small_case(4)
        found = Bench(case.model, case.weights, case.calibrated, _reference(case, feeds)).measure(Choice())
        assert sum(found.halves) == pytest.approx(found.damage)
        assert min(found.halves) > 0


class TestAnswers:
    @given(st.integers(0, 100), st.floats(0, 1))
    def test_between_none_and_all_and_none_without_noise(self, seed: int, noise: float) -> None:
        random = np.random.default_rng(seed)
        logits = [random.normal(size=(1, 10)) for _ in range(8)]
        other = [x + noise * random.normal(size=x.shape) for x in logits]
        assert changed(logits, logits, logarithms=False) == 0.0
        assert 0.0 <= changed(logits, other, logarithms=False) <= 1.0

    def test_is_about_the_share_that_many_samples_show(self) -> None:
        random = np.random.default_rng(0)
        logits = random.normal(size=(20000, 1, 10))
        other = logits + 0.1 * random.normal(size=logits.shape)
        seen = float(np.mean(logits.argmax(-1) != other.argmax(-1)))
        few = np.mean(
            [changed(list(logits[i : i + 32]), list(other[i : i + 32]), logarithms=False) for i in range(0, 640, 32)]
        )
        assert few == pytest.approx(seen, rel=0.5)
