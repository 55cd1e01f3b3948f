"""The what-if: its formula, what it is made of, and that what it predicts is what other models measure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from broken_models import DETECTORS, pictures
from hypothesis import given
from hypothesis import strategies as st

import hybridq
from hybridq.build.builder import build
from hybridq.graph.runtime import run, session
from hybridq.quant.dtypes import Precision
from hybridq.quant.metrics import SliceDamage
from hybridq.report import Known, judge
from hybridq.report.prediction import NEARLY, SHARE, Additive, Figure, Prediction
from hybridq.search.whatif import Question, predict
from hybridq.steps.common import read_config, read_state
from hybridq.steps.step3_whatif import remedy_of

WITHIN, NEVER = 1.5, 4.0  # dB


@st.composite
def additives(draw: st.DrawFn) -> Additive:
    units, pairs = draw(st.integers(1, 6)), draw(st.integers(0, 8))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    ends = rng.integers(0, units, (2, pairs))
    return Additive(rng.random((units, 2)), ends[0], ends[1], rng.random((pairs, 2)))


@given(additives(), st.data())
def test_raising_more_never_adds_noise_and_raising_all_leaves_none(model: Additive, data: st.DataObject) -> None:
    units = range(len(model.own))
    some = data.draw(st.sets(st.sampled_from(list(units))))
    more = some | data.draw(st.sets(st.sampled_from(list(units))))
    assert (model.noise(more) <= model.noise(some) + 1e-12).all()
    assert (model.noise(units) == 0).all()
    slow = [
        sum(model.own[u, f] for u in units if u not in some)
        + sum(p[f] for a, b, p in zip(model.first, model.second, model.pairs, strict=True) if not {a, b} <= some)
        for f in range(2)
    ]
    np.testing.assert_allclose(model.noise(some), slow, atol=1e-12)


def test_a_figure_without_noise_or_signal_has_no_number() -> None:
    assert Figure("out", "", 1.0).decibels(0.0) == 200.0
    assert Figure("out", "", 1.0, 2.0, 0.5, 10.0).decibels(0.01) == pytest.approx(20 + 2 + 0.5 * (20 - 10))


FEEDS = pictures(12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("whatif")
    model = DETECTORS["scaled_after"].make(where / "model.onnx")
    hybridq.step1(model, FEEDS, where / "build", dtype="uint8", threads=1)
    hybridq.step2(where / "build", threads=1)
    return where / "build"


def _asked(folder: Path) -> Question:
    state = read_state(folder)
    config, _ = read_config(folder, state)
    return Question(state.model, state.weights, state.calibrated, config, Precision.UINT8, Precision.FLOAT32)


def test_the_build_is_measured_as_step3_measures_it_and_the_cfg_counts(folder: Path) -> None:
    found = hybridq.step3(folder, FEEDS, threads=1, seconds=0, what_if=True)
    made = found.extras.prediction
    assert made is not None
    wholes = {f.output: db for f, db in zip(made.figures, made.joints[0].measured, strict=True) if not f.label}
    for output in found.report.outputs:
        assert wholes[output.name] == pytest.approx(output.sqnr_db, abs=1e-6)
    assert made.joints[0].what == "this build"
    assert made.current == ()
    raised = made.units[0].layers
    assert all(_asked(folder).plan(raised).layers[n].done is Precision.FLOAT32 for n in raised)
    told = json.loads((folder / "report" / "report.json").read_text())["what_if"]
    assert told["joints"][0]["raised"] == []
    assert [u["name"] for u in told["units"]] == [u.name for u in made.units]


def test_the_front_goes_from_nothing_to_everything_and_gets_better(folder: Path) -> None:
    made = predict(_asked(folder), FEEDS[:6], alone=4)
    noise = [float((made.model.noise(s) / [f.signal for f in made.figures]).sum()) for s in made.front]
    share = [sum(made.units[u].share for u in s) for s in made.front]
    assert share == sorted(share)
    assert len(made.front[-1]) == len(made.units)
    assert noise[-1] == 0 < noise[0]


def test_what_is_promised_gains_and_is_named_with_its_figure(folder: Path) -> None:
    made = predict(_asked(folder), FEEDS[:6], alone=4)
    raised = made.promising()
    share = made.base_share + sum(made.units[u].share for u in raised)
    within = [s for s in made.front if made.base_share + sum(made.units[u].share for u in s) <= SHARE]
    assert share <= SHARE
    assert min(made.decibels(raised)) >= max(min(made.decibels(s)) for s in within) - NEARLY
    advised = remedy_of(made)
    assert advised is not None
    assert advised.layers == tuple(n for u in raised for n in made.units[u].layers)
    known = Known(predicted=advised)
    report = hybridq.step3(folder, FEEDS, threads=1, seconds=0).report
    calm = dataclasses.replace(report, layers=())  # no layer stands out
    first = judge(calm, known).actions[0]
    assert first.layers == advised.layers
    assert str(first).endswith("predicted")


SELECTIONS = 20
MODELS = ("pfld_ghostone", "squeezenet", "ultraface_rfb320", "fastestdet", "super_resolution")


def measured(
    asked: Question, feeds: list[Any], given: list[Any], names: list[str], layers: set[str]
) -> dict[str, float]:
    """SQNR of every output of the model with these layers raised, in dB."""
    one = session(build(asked.model, asked.plan(layers), asked.weights).assemble(), threads=1)
    damage = {n: SliceDamage() for n in names}
    for feed, truth in zip(feeds, given, strict=True):
        for name, a, b in zip(names, truth, run(one, feed, names), strict=True):
            damage[name].add(a, b)
    return {n: d.sqnr_db for n, d in damage.items()}


def selections(made: Prediction, seed: int = 7) -> list[set[int]]:
    """Sets of units: the build with 5 to 50 % of the layers raised, or lowered where there is something to lower."""
    rng, current = np.random.default_rng(seed), set(made.current)
    unit = {n: i for i, u in enumerate(made.units) for n in u.layers}
    layers, found = list(unit), []
    for _ in range(SELECTIONS):
        count = max(1, round(rng.uniform(0.05, 0.5) * len(layers)))
        chosen = {unit[layers[i]] for i in rng.choice(len(layers), count, replace=False)}
        down = bool(rng.integers(2)) and len(current) >= len(made.units) / 4
        found.append(current - chosen if down else current | chosen)
    return found


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize("name", MODELS)
def test_what_is_predicted_is_what_other_models_measure(name: str, zoo: ModuleType, tmp_path: Path) -> None:
    model = zoo.load(name)
    hybridq.step1(model.model_path, list(model.calibration()), tmp_path / "build", threads=1)
    asked, feeds = _asked(tmp_path / "build"), [feed for feed, _ in model.evaluation()][:64]
    made = predict(asked, feeds)
    wholes = [i for i, f in enumerate(made.figures) if not f.label]
    names = [made.figures[i].output for i in wholes]
    given = [session(model.model_path, threads=1).run(names, feed) for feed in feeds]
    missed = []
    for raised in selections(made):
        truth = measured(asked, feeds, given, names, {n for u in raised for n in made.units[u].layers})
        predicted = made.decibels(raised)
        missed += [abs(predicted[i] - truth[n]) for i, n in zip(wholes, names, strict=True)]
    assert np.mean(np.array(missed) <= WITHIN) >= 0.9, sorted(missed)[-9:]
    assert max(missed) <= NEVER
