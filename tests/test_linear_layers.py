"""A MatMul and the Add of its bias are one linear layer, whatever the size of the batch and whatever stands before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.runtime import run, session

RANDOM = np.random.default_rng(8)
BEFORE = {
    "nothing": "",
    "Relu": "s = Relu(x)",
    "Scaler": "s = ai.onnx.ml.Scaler<offset = [1.0], scale = [2.0]>(x)",
    "several": """a = ai.onnx.ml.Imputer<imputed_value_floats = [1.0]>(x)  e = Relu(a)
        c = ai.onnx.ml.Normalizer<norm = "L2">(e)  s = ai.onnx.ml.Binarizer<threshold = 0.1>(c)""",
}


def written(shape: str, before: str, out: str) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        g (float[{shape}] x) => (float[{out}] y) {{ {before}
        m = MatMul({"s" if before else "x"}, w)  b = Add(m, k)  y = Relu(b) }}"""
    model = parser.parse_model(text)
    for name, dims in (("w", (4, 3)), ("k", (3,))):
        model.graph.initializer.append(numpy_helper.from_array(RANDOM.normal(size=dims).astype(np.float32), name))
    return model


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("batch", ["N", "5"])
def test_rows_of_an_open_batch_are_joined(batch: str, before: str) -> None:
    given = written(f"{batch}, 4", BEFORE[before], f"{batch}, 3")
    canonical = canonicalize(given)
    assert [n.op_type for n in canonical.graph.node][-2:] == ["Gemm", "Relu"]
    x = RANDOM.normal(size=(5, 4)).astype(np.float32)
    (wanted,), (found,) = (run(session(m, threads=1), {"x": x}) for m in (given, canonical))
    assert np.allclose(wanted, found, atol=1e-6)


def test_more_axes_of_which_one_is_open_are_not() -> None:
    canonical = canonicalize(written("N, 2, 4", "", "N, 2, 3"))
    assert [n.op_type for n in canonical.graph.node] == ["MatMul", "Add", "Relu"]
