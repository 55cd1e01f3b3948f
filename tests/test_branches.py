"""Nets in the form in which they are trained are told so, and their deployed form is smaller, as exact and faster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_chinese import is_translated
from onnx import numpy_helper, parser

from hybridq.steps.step1 import Step1Result, step1
from hybridq.steps.step2 import step2

RANDOM = np.random.default_rng(5)
FEEDS = [{"x": RANDOM.normal(size=(1, 8, 12, 12)).astype(np.float32)} for _ in range(8)]
PADS = "pads = [1, 1, 1, 1]"
WIDE = {f"w{i}": RANDOM.normal(size=(16, 8, 3, 3)).astype(np.float32) / 8 for i in range(3)}
POINT = {"p": RANDOM.normal(size=(16, 8, 1, 1)).astype(np.float32) / 4}


def told(text: str, folder: Path, **tensors: np.ndarray) -> Step1Result:
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 8, 12, 12] x) => (float[A, B, C, D] y) {{ {text} }}""")
    read = {i for n in model.graph.node for i in n.input}
    held = {**WIDE, **POINT, **tensors}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in held.items() if k in read)
    folder.mkdir()
    onnx.save(model, folder / "m.onnx")
    return step1(folder / "m.onnx", FEEDS, folder / "b", threads=1)


TRAINED = f"""a = Conv<{PADS}>(x, w0)  b = Conv<{PADS}>(x, w1)  c = Conv<{PADS}>(x, w2)  d = Conv(x, p)
    ab = Add(a, b)  abc = Add(ab, c)  s = Add(abc, d)  y = Relu(s)"""


def test_the_trained_form_is_told_and_the_deployed_one_is_smaller_and_as_exact(tmp_path: Path) -> None:
    trained = told(TRAINED, tmp_path / "trained")
    (finding,) = (f for f in trained.findings if f.code == "branches")
    assert finding.message.startswith("4 convolutions are added where 1 would do, in 'y': ")
    assert is_translated(finding.message)
    merged = sum(WIDE.values()) + np.pad(POINT["p"], [(0, 0), (0, 0), (1, 1), (1, 1)])
    deployed = told(f"s = Conv<{PADS}>(x, w)  y = Relu(s)", tmp_path / "deployed", w=merged)
    assert "branches" not in {f.code for f in deployed.findings}
    sizes = [step2(r.directory, threads=1).path.stat().st_size for r in (trained, deployed)]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize(
    "text",
    [
        f"a = Conv<{PADS}>(x, w0)  b = Relu(a)  c = Conv<{PADS}>(x, w1)  y = Add(b, c)",  # what lies between counts
        f"n = Neg(x)  a = Conv<{PADS}>(x, w0)  c = Conv<{PADS}>(n, w1)  y = Add(a, c)",  # of two tensors
        f"a = Conv<{PADS}>(x, w0)  c = Conv<pads = [2, 2, 2, 2], dilations = [2, 2]>(x, w1)  y = Add(a, c)",
        f"a = Conv<{PADS}>(x, w0)  c = Conv<{PADS}>(x, w1)  y = Mul(a, c)",
        f"a = Conv<{PADS}>(x, w0)  y = Add(a, k)",  # one alone
    ],
)
def test_other_sums_are_not(text: str, tmp_path: Path) -> None:
    constants = {"k": np.ones((16, 1, 1), np.float32)}
    assert "branches" not in {f.code for f in told(text, tmp_path / "m", **constants).findings}
