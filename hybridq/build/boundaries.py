"""Quantizers of activations: where a tensor takes its stored form, and conversions where an edge's ends differ."""

from __future__ import annotations

from onnx import TensorProto

from hybridq.build.barriers import own_node
from hybridq.build.metadata import Copy
from hybridq.build.writer import Writer
from hybridq.plan.quant_plan import Boundary, Stored


def store_input(writer: Writer, name: str, stored: Stored) -> None:
    """Store a model input: layers read ``NAME/dequantized``."""
    result = writer.fresh(f"{name}/dequantized")
    store(writer, name, name, result, stored)
    writer.values[name] = result
    writer.copies[result] = Copy(name)


def store(writer: Writer, name: str, raw: str, result: str, stored: Stored) -> None:
    """Bring ``raw`` into the stored form of tensor ``name`` and back into float, as ``result``."""
    _round(writer, name, raw, f"{name}/{stored.precision}", result, stored)


def converted(writer: Writer, boundary: Boundary, form: Stored) -> str:
    """The name of a tensor converted to fewer bits, once for all who want the same numbers."""

    def make() -> str:
        tensor, wanted = boundary.tensor, boundary.wanted
        held = writer.values.get(tensor, tensor)
        source = own_node(writer, held) if boundary.barrier else held
        result = writer.fresh(f"{tensor}/as_{wanted}")
        _round(writer, tensor, source, f"{tensor}/to_{wanted}", result, form)
        writer.copies[result] = Copy(tensor)
        return result

    p = form.qparams
    numbers = (p.scale.tobytes(), p.zero_point.tobytes()) if p is not None else ()
    return writer.once(("conversion", boundary.tensor, form.precision, *numbers), make)


def _round(writer: Writer, name: str, raw: str, between: str, result: str, stored: Stored) -> None:
    """QuantizeLinear and DequantizeLinear, or two Casts; ``between`` is the name of what is stored."""
    if stored.qparams is None:
        half = writer.node("Cast", [raw], writer.fresh(between), to=TensorProto.FLOAT16)
        writer.node("Cast", [half], result, to=TensorProto.FLOAT)
        return
    numbers = writer.numbers(stored.qparams)
    writer.integers[result] = writer.node("QuantizeLinear", [raw, *numbers], writer.fresh(between))
    writer.node("DequantizeLinear", [writer.integers[result], *numbers], result)
