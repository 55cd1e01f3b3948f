"""TensorRT's calibration cache: ``name: hhhhhhhh``, the big-endian hex of the float32 ``amax / 127``."""

from __future__ import annotations

import re
import struct

from hybridq.errors import ConfigError, Problem
from hybridq.exchange.mapping import Mapper
from hybridq.exchange.records import Export, ExportOptions, Wanted
from hybridq.exchange.tensorrt import amaxes, losses, take_amax
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.quant.records import Calibrated

HEAD = "TRT-8000-EntropyCalibration2"  # what IInt8EntropyCalibrator2 of TensorRT 8 and later reads
STEPS = 127  # TensorRT's int8 is symmetric, from -127 to 127
_LINE = re.compile(r"(.+): ([0-9a-fA-F]{1,8})\s*")


def write(view: View, options: ExportOptions) -> Export:
    """One line a tensor that is stored in 8 bits."""
    lines = [f"{name}: {struct.pack('>f', amax / STEPS).hex()}" for name, amax in amaxes(view).items()]
    return Export({f"{options.name}.cache": ("\n".join([HEAD, *lines]) + "\n").encode()}, losses(view))


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return text.startswith("TRT-")


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """The largest magnitude of every tensor. Raises ConfigError where it is no cache."""
    lines = text.splitlines()
    if not recognise(text):
        raise ConfigError(Problem("no calibration cache: its first line names no TensorRT", path, 1))
    mapper = Mapper(path, text, model, calibrated)
    for number, line in enumerate(lines[1:], 2):
        found = _LINE.fullmatch(line)
        if found is None and line.strip():
            mapper.wanted.problems.append(
                Problem(f"no `name: hex`: {line[:60]!r}", path, number, severity="warning", code="unmapped")
            )
        elif found is not None:
            scale = struct.unpack(">f", bytes.fromhex(found[2].zfill(8)))[0]
            take_amax(mapper, found[1], float(scale) * STEPS)
    return mapper.wanted
