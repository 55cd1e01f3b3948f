"""A bias behind an integer product of tokens: ONNX Runtime must not make a float Gemm of the two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from qdq_graphs import as_written, optimized

from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

RANDOM = np.random.default_rng(12)
FEEDS = [{"x": RANDOM.normal(size=(1, 20, 32)).astype(np.float32)} for _ in range(8)]


def classifier(path: Path, out: str) -> Path:
    """A linear layer of tokens, a Relu, and the classifier, whose result is an output."""
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 20, 32] x) => (float[{out}] y) {{
        m = MatMul(x, w)  a = Add(m, k)  r = Relu(a)  n = MatMul(r, v)  y = Add(n, b) }}""")
    for name, shape in (("w", (32, 64)), ("k", (64,)), ("v", (64, 300)), ("b", (300,))):
        values = RANDOM.normal(size=shape).astype(np.float32) / 8
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("out", ["1, 20, 300", "A, B, C"])
def test_the_product_stays_in_integers(out: str, tmp_path: Path) -> None:
    given = classifier(tmp_path / "given.onnx", out)
    step1(given, FEEDS, tmp_path / "b", threads=1)
    built = step2(tmp_path / "b", threads=1).path
    kinds = [n.op_type for n in optimized(onnx.load(built)).node]
    assert "MatMulIntegerToFloat" in kinds
    assert not {"Gemm", "MatMul"} & set(kinds)
    (bias,) = (t for t in onnx.load(built).graph.initializer if t.name.startswith("b"))
    assert list(bias.dims) == [1, 1, 300]


def test_no_bit_changes(tmp_path: Path) -> None:
    given = classifier(tmp_path / "given.onnx", "1, 20, 300")
    step1(given, FEEDS, tmp_path / "b", threads=1)
    built = step2(tmp_path / "b", threads=1).path
    portable = step2(tmp_path / "b", out=tmp_path / "portable.onnx", portable=True, threads=1).path
    (bias,) = (t for t in onnx.load(portable).graph.initializer if t.name.startswith("b"))
    assert list(bias.dims) == [300]
    for a, b in zip(as_written(built, FEEDS), as_written(portable, FEEDS), strict=True):
        assert np.array_equal(a, b)
