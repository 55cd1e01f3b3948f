"""Whatever ONNX Runtime runs gets through the steps, and comes out right in every precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from situations import ALL
from situations.common import Situation

import hybridq
from hybridq.graph import runtime

Array = NDArray[Any]
EXACT = 100.0  # dB
FAST = ["float32", "uint8"]
SLOW = [None, "int8", "int16", "float16"]
SEARCHED = {*sorted(ALL)[::8], "empties-empty-split", "empties-empty-batch", "endings-sequence", "endings-optional"}


def outputs(model: Path, situation: Situation) -> list[list[Any]]:
    """What a model gives on copies of the samples: some operators write into what they are fed."""
    one = runtime.session(model, threads=1)
    return [runtime.run(one, {n: v.copy() for n, v in feed.items()}) for feed in situation.feeds]


def quality(wanted: list[Any], found: list[Any], *, exact: bool) -> float:
    """SQNR in dB over all float outputs of a sample; integers must be equal where ``exact``."""
    signal = noise = 0.0
    for a, b in zip(wanted, found, strict=True):
        if isinstance(a, list):
            assert quality(a, b, exact=exact) >= (EXACT if exact else 0)
        elif a is not None:
            a, b = np.asarray(a), np.asarray(b)
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            good = np.isfinite(a)
            assert np.array_equal(good, np.isfinite(b))
            if a.dtype.kind == "f":
                a, b = a[good].astype(np.float64), b[good].astype(np.float64)
                signal, noise = signal + float((a**2).sum()), noise + float(((a - b) ** 2).sum())
            elif exact:
                np.testing.assert_array_equal(a, b)
    return float(10 * np.log10(max(signal, 1e-30) / noise)) if noise else np.inf


def check(name: str, dtype: str | None, folder: Path, *, auto: bool = False) -> None:
    """Put a situation through the steps and judge what is built on the samples themselves."""
    situation, path = ALL[name], folder / "model.onnx"
    onnx.save(situation.model, path)
    wanted = outputs(path, situation)
    feeds = [{n: v.copy() for n, v in feed.items()} for feed in situation.feeds]
    if auto:
        hybridq.auto(path, feeds, folder / "b", threads=1)
    else:
        hybridq.step1(path, feeds, folder / "b", threads=1, **({} if dtype is None else {"dtype": dtype}))
        hybridq.step2(folder / "b", threads=1)
        hybridq.step3(folder / "b", feeds, threads=1)
    least = {"float32": EXACT, "int16": situation.int16, "float16": min(45.0, situation.int16)}.get(
        dtype or "", situation.uint8
    )
    exact = dtype == "float32"
    for a, b in zip(wanted, outputs(folder / "b/hybrid.onnx", situation), strict=True):
        assert quality(a, b, exact=exact) >= least


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("name", sorted(ALL)[::4])
def test_it_gets_through(name: str, dtype: str, tmp_path: Path) -> None:
    check(name, dtype, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("name", sorted(set(ALL) - set(sorted(ALL)[::4])))
def test_the_others_do(name: str, dtype: str, tmp_path: Path) -> None:
    check(name, dtype, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [(n, SLOW[i % len(SLOW)]) for i, n in enumerate(sorted(ALL))])
def test_in_the_other_precisions(name: str, dtype: str | None, tmp_path: Path) -> None:
    check(name, dtype, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SEARCHED))
def test_the_search_takes_it(name: str, tmp_path: Path) -> None:
    check(name, None, tmp_path, auto=True)


@pytest.mark.parametrize("name", ["endings-half", "endings-half-through"])
def test_a_float16_model_is_measured_layer_by_layer(name: str, tmp_path: Path) -> None:
    """What its layers read is float32 inside, its ends are not."""
    situation, path = ALL[name], tmp_path / "model.onnx"
    onnx.save(situation.model, path)
    hybridq.step1(path, situation.feeds, tmp_path / "b", threads=1, dtype="uint8")
    hybridq.step2(tmp_path / "b", threads=1)
    compared = hybridq.step3(tmp_path / "b", situation.feeds, threads=1)
    assert compared.report.layers
    assert all(x.individual is not None for x in compared.report.layers), [x.note for x in compared.report.layers]
    ends = [
        (v.name, v.type.tensor_type.elem_type) for v in (*situation.model.graph.input, *situation.model.graph.output)
    ]
    built = onnx.load(tmp_path / "b/hybrid.onnx").graph
    assert [(v.name, v.type.tensor_type.elem_type) for v in (*built.input, *built.output)] == ends
