"""What is written in a format comes back the same; a file that is none is told where it is not."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hybridq import targets
from hybridq.config.check import read_cfg
from hybridq.errors import ConfigError
from hybridq.exchange.formats import READABLE, recognised
from hybridq.exchange.tensorrt_cache import read as read_cache
from hybridq.files import limits
from hybridq.plan.plan import make_plan
from hybridq.plan.record import Request, record
from hybridq.quant.dtypes import Precision
from hybridq.steps.step1 import step1
from hybridq.steps.step4 import _read as read_foreign
from hybridq.storage.state import State
from tests.helpers_config import PATH, small
from tests.helpers_exchange import content, edited_cfg, export, imported, plain_cfg, state

EXACT = {  # formats that say parameters, and a target whose terms they share
    "aimet-0.6.1": "qnn",
    "aimet-1.0.0": "qnn",
    "aimet-2.0.0": "qnn",
    "json": "onnxruntime",
    "csv": "onnxruntime",
    "rknn1": "rknn1",
    "rknn1-params": "rknn1",
    "rknn2": "rknn2",
}
LAYERS = [x.name for x in small()[0].layers if not x.float_only]


def _stored(s: State, text: str) -> dict[str, tuple[Precision, tuple[float, int] | None]]:
    plan = make_plan(s.model, s.calibrated, read_cfg(text, PATH, s.model, s.calibrated), s.weights)
    found = {name: (g.stored.precision, g.stored.qparams) for name, g in plan.groups.items()}
    return {n: (precision, p and (float(p.scale), int(p.zero_point))) for n, (precision, p) in found.items()}


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_file_read_back_gives_the_same_tensors(name: str, data: st.DataObject) -> None:
    s = state(EXACT[name])
    kinds = [str(p) for p in targets.load(EXACT[name]).precisions][: 2 if name.startswith("rknn1") else None]
    if name == "rknn1-params":  # which says nothing of layers and has one word for both floats
        kinds = [k for k in kinds if "float" not in k]
    picked = data.draw(st.dictionaries(st.sampled_from(LAYERS), st.sampled_from(kinds)))
    text = edited_cfg(s, picked)
    written = export(name, s, text)
    assume(not any("it reads as" in p.message for p in written.losses))
    change, _ = imported(name, content(written), s)
    before, after = _stored(s, text), _stored(s, change.text)
    for key, (precision, numbers) in before.items():
        assert after[key][0] is precision, key
        if numbers is not None:
            assert after[key][1] == pytest.approx(numbers, rel=1e-5), key


def test_an_edited_range_comes_back() -> None:
    s = state("rknn1")
    text = edited_cfg(s, {}, {"conv1": {"min": "-1", "max": "3"}})
    for name in ("rknn1", "json", "csv", "rknn1-params"):
        change, _ = imported(name, content(export(name, s, text)), s)
        assert _stored(s, change.text)["conv1"] == _stored(s, text)["conv1"], name


def test_a_range_comes_back_where_a_layer_has_more_bits_than_what_it_writes() -> None:
    s = state("onnxruntime", "uint8")
    for layer in LAYERS:
        for reader in LAYERS:
            group = s.model.layer[layer].group
            text = edited_cfg(s, {layer: "int16", reader: "uint8"}, {group: {"min": "-1.5", "max": "1.25"}})
            for name in ("csv", "json"):
                change, _ = imported(name, content(export(name, s, text)), s)
                assert _stored(s, change.text)[group][0] is _stored(s, text)[group][0], (name, layer, reader)


def test_our_json_keeps_the_selectors_and_the_edits() -> None:
    s = state("onnxruntime", "uint8")
    text = edited_cfg(s, {}, {"conv1": {"max": "3"}})
    text = text.replace("customized_quantize_layers: {}", 'customized_quantize_layers:\n    "op:Conv": int16')
    change, wanted = imported("json", content(export("json", s, text)), s)
    before, after = (read_cfg(t, PATH, s.model, s.calibrated).edits for t in (text, change.text))
    assert [replace(e, line=0) for e in after] == [replace(e, line=0) for e in before]
    assert not wanted.problems


def test_reading_what_step1_chose_edits_nothing() -> None:
    for name in READABLE:
        s = state(EXACT.get(name, "tensorrt"))
        change, _ = imported(name, content(export(name, s)), s)
        assert change.text == plain_cfg(s), name
        assert recognised(content(export(name, s)), "x") in (name, "rknn2"), name


NONSENSE = ["", "{}", "[", "TRT-8000\nx", "\x00", '{"version": 3, "encodings": 7}', "a: [1", "kind,name\n"]


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("text", NONSENSE)
def test_what_is_no_such_file_is_a_located_error(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(name, text, state("qnn"))
    assert all(p.path == "theirs" or p.severity == "warning" for p in caught.value.problems)


@pytest.mark.parametrize("name", READABLE)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_never_ends_otherwise(name: str, data: st.DataObject) -> None:
    s = state(EXACT.get(name, "tensorrt"))
    text = content(export(name, s))
    at = data.draw(st.integers(0, len(text) - 1))
    broken = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 40)) :]
    with suppress(ConfigError):
        assert isinstance(imported(name, broken, s)[0].text, str)


def test_a_cache_with_a_broken_line_names_it() -> None:
    s = state("tensorrt")
    text = content(export("tensorrt-cache", s)) + "no hex here\nconv9: 3c010a14\n"
    wanted = read_cache(text, "c", s.model, s.calibrated)
    assert [p.line for p in wanted.problems] == [len(text.splitlines()) - 1, len(text.splitlines())]


ZOO = (
    "fastestdet",
    "pfld_ghostone",
    "silero_vad",
    "squeezenet",
    "super_resolution",
    "ultraface_rfb320",
    "vww_mobilenet",
    "yunet_n",
)
RANGES = {"tensorrt-cache": "tensorrt", "tensorrt-ranges": "tensorrt"}  # formats that say nothing of layers
LAYERWISE = {"tensorrt-precisions": "tensorrt", "pulsar2": "onnxruntime"}  # and of nothing else
ALL = [*EXACT, *RANGES, *LAYERWISE]


@cache
def real(zoo: ModuleType, name: str, target: str) -> State:
    """A model of the zoo, calibrated for a target on one sample."""
    if target not in ("onnxruntime", "rknn2"):  # the graph is read alike for these: nothing is to be run again
        s, goal = real(zoo, name, "onnxruntime"), targets.load(target)
        found = record(s.model, s.weights, s.calibrated.measured, Request(goal, goal.default, "normal"))
        return State(s.model, s.weights, found, {}, 1)
    model = zoo.load(name)
    words = {"target": target, "algorithm": "normal", "weights_repair": "none", "threads": 1}
    with tempfile.TemporaryDirectory() as folder:
        return step1(model.model_path, [next(iter(model.calibration()))], Path(folder) / "b", **words).state


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize(("model", "name"), [(m, n) for i, m in enumerate(ZOO) for n in ALL[i % 4 :: 4]])
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_formats_of_real_models_come_back(name: str, model: str, zoo: ModuleType, data: st.DataObject) -> None:
    """Step1 chose everything: a file written and read changes nothing. Layers and ranges picked at random come back."""
    target = {**EXACT, **RANGES, **LAYERWISE}[name]
    s = real(zoo, model, target)
    change, _ = imported(name, content(export(name, s)), s)
    assert change.text == plain_cfg(s)
    kinds = [str(p) for p in targets.load(target).precisions][: 2 if target == "rknn1" else None]
    if name == "rknn1-params":
        kinds = [k for k in kinds if "float" not in k]
    free = st.sampled_from([x.name for x in s.model.layers if not x.float_only])
    picked = {} if name in RANGES else data.draw(st.dictionaries(free, st.sampled_from(kinds), max_size=8))
    ranged = data.draw(st.lists(free, max_size=0 if name in LAYERWISE else 3, unique=True))
    text = edited_cfg(s, picked, {s.model.layer[n].group: {"min": "-1.5", "max": "1.25"} for n in ranged})
    written = export(name, s, text)
    assume(not any("it reads as" in p.message for p in written.losses))
    change, _ = imported(name, content(written), s)
    if name not in EXACT:
        assert content(export(name, s, change.text)) == content(written)
        return
    before, after = _stored(s, text), _stored(s, change.text)
    for key, (precision, numbers) in before.items():
        assert after[key][0] is precision, key
        if numbers is not None:
            assert after[key][1] == pytest.approx(numbers, rel=1e-5), key


def test_another_toolchains_file_may_be_larger_than_a_cfg(tmp_path: Path) -> None:
    path = tmp_path / "encodings.json"
    path.write_text("{}" + " " * (limits.CFG + 1))
    assert read_foreign(path).strip() == "{}"
    path.write_bytes(b" ")
    os.truncate(path, limits.FOREIGN + 1)
    with pytest.raises(ConfigError, match="more than 200000000"):
        read_foreign(path)
