"""What ONNX Runtime's optimizer fused is written out: the same function, in layers that can take a precision."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto
from situations.common import Situation
from situations.fusions import CASES as FUSED
from situations.optimized import CASES as SAVED
from situations.optimized import PICTURES, TOKENS

from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize, remarks
from hybridq.graph.intake.unfused import FORMS, PRIVATE, private

CASES = {**FUSED, **SAVED}
WRITTEN_OUT = [n for n, held in CASES.items() if any(x.op_type in FORMS for x in private(held.model.graph))]


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_the_same_function_in_standard_operators(name: str) -> None:
    situation = CASES[name]
    found = canonicalize(situation.model)
    assert not [n.op_type for n in private(found.graph) if n.op_type in FORMS and n.domain == PRIVATE]
    for feed in situation.feeds:
        a, b = (runtime.run(runtime.session(m, threads=1), feed) for m in (situation.model, found))
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(np.abs(one).max()))


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_every_layer_of_the_file_has_its_name(name: str) -> None:
    """What a fused node writes is a layer that can take a precision, under the node's name and the tensor's."""
    given = CASES[name].model
    model = analyse(canonicalize(given), given)
    for node in private(given.graph):
        if node.op_type in FORMS:
            assert not model.layer[model.names[node.output[0]]].float_only
            assert not node.name or model.names[node.name] == model.names[node.output[0]]


@pytest.mark.parametrize(("kind", "before"), [("pictures", PICTURES), ("tokens", TOKENS)])
def test_saved_and_written_out_it_has_the_layers_of_before(kind: str, before: Situation) -> None:
    """No layer with weights is lost behind an operator that nobody knows."""
    models = [analyse(canonicalize(m), m) for m in (before.model, SAVED[f"{kind}-extended"].model)]
    own, saved = ([x.macs for x in m.layers if x.weights and x.op in ("Conv", "Gemm", "MatMul")] for m in models)
    assert saved == own


def test_a_rank_that_nobody_knows_stays_fused() -> None:
    """Without the number of axes, a transposed operand cannot be written."""
    given = ModelProto()
    given.CopyFrom(FUSED["fused-product"].model)
    given.graph.input[0].type.tensor_type.ClearField("shape")
    assert "FusedMatMul" in [n.op_type for n in canonicalize(given).graph.node]


def test_what_stays_is_told() -> None:
    told = [p for p in remarks(canonicalize(FUSED["attention"].model), "a.onnx") if p.code == "optimized"]
    (one,) = told
    assert str(one) == (
        "a.onnx: ONNX Runtime optimized this file; operators of its own stay float32: 1 Attention\n"
        "  Give the model from before it was optimized: all its layers can take a precision."
    )
    assert not remarks(canonicalize(FUSED["gelu"].model))
