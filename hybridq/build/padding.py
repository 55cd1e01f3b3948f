"""Zero channels appended to what a layer reads."""

from __future__ import annotations

import numpy as np

from hybridq.build.metadata import Copy
from hybridq.build.writer import Writer
from hybridq.plan.quant_plan import Padding, Stored


def padded(writer: Writer, tensor: str, read: str, form: Stored, padding: Padding) -> str:
    """``read``, which is ``tensor`` restored from the integers of ``form``, with more channels of zeros behind."""
    p = form.qparams
    assert p is not None

    def make() -> str:
        numbers = writer.numbers(p)
        pads = writer.small(f"{read}/pads", np.array([0, 0, 0, 0, 0, padding.channels, 0, 0], np.int64))
        inputs = [writer.integers[read], pads, numbers[1]]
        wide = writer.node("Pad", inputs, writer.fresh(f"{read}/padded"), mode="constant")
        result = writer.node("DequantizeLinear", [wide, *numbers], writer.fresh(f"{read}/padded_dequantized"))
        writer.copies[result] = Copy(tensor, pads)
        return result

    return writer.once(("padded", read, padding.channels), make)
