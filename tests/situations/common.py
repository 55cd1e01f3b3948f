"""How a situation is written down: a graph in ONNX's text form, its constants, and samples."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

Array = NDArray[Any]
SAMPLES = 4


@dataclass(frozen=True)
class Situation:
    """A model, its samples, and the least SQNR in dB that integers must reach."""

    model: ModelProto
    feeds: list[dict[str, Array]] = field(repr=False)
    uint8: float = 20.0
    int16: float = 50.0


def written(
    text: str,
    tensors: dict[str, Any] | None = None,
    *,
    opset: int = 17,
    uint8: float = 20,
    int16: float = 50,
    **inputs: Any,
) -> Situation:
    """A situation from the text of a graph.

    ``tensors``: constants, given whole or by the shape (a tuple) of weights to be drawn. ``inputs``: an array of every
    sample, a shape to draw each sample in, or a list of either, one a sample.
    """
    random = np.random.default_rng(zlib.crc32(text.encode()))
    graph = parser.parse_graph(f"agraph {text}")
    for name, held in (tensors or {}).items():
        graph.initializer.append(numpy_helper.from_array(_constant(held, random), name))
    version = 8 if opset < 20 else 10 if opset < 22 else 11
    domains = {n.domain for n in graph.node if n.domain}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
    model = helper.make_model(graph, opset_imports=imports, ir_version=version)
    count = max([SAMPLES, *(len(v) for v in inputs.values() if isinstance(v, list))])
    feeds = [{n: _sample(v, i, random) for n, v in inputs.items()} for i in range(count)]
    return Situation(model, feeds, uint8, int16)


def _constant(held: Any, random: np.random.Generator) -> Array:
    if not isinstance(held, tuple):
        return np.asarray(held)
    fan_in = max(int(np.prod(held[1:])), 1)
    return np.asarray(random.standard_normal(held) / np.sqrt(fan_in), np.float32)


def _sample(given: Any, index: int, random: np.random.Generator) -> Array:
    if isinstance(given, list):
        given = given[index % len(given)]
    if isinstance(given, tuple):
        return np.asarray(random.standard_normal(given), np.float32)
    return np.asarray(given)


def of_type(model: ModelProto, name: str) -> int:
    """The element type of an input."""
    return next(i.type.tensor_type.elem_type for i in model.graph.input if i.name == name)


def int64(*values: Any) -> Array:
    """A vector of integers; a scalar where a single number is given twice removed: ``int64(3)[0]``."""
    return np.array(values, np.int64)


def float32(*values: Any) -> Array:
    """A vector of floats."""
    return np.array(values, np.float32)


FLOAT = TensorProto.FLOAT
LOWEST = float(np.finfo(np.float32).min)
__all__ = ["FLOAT", "LOWEST", "Array", "Situation", "float32", "int64", "of_type", "onnx", "written"]
