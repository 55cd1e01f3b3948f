"""ncnn: the float model converted by pnnx, and the same with int8 weights and scales put in, as ``ncnn2int8`` does.

``.param`` is text, a layer a line; ``.bin`` has the weights of all layers in its order. pnnx gives layers new names, so
a convolution is known by its weights: their bytes are looked for in ``.bin``. There int8 weights and the scales of the
calibration table take their place: ``flag, weights, bias, scales of the weights, scale of the input``.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.engines.records import Loaded, write_float
from hybridq.errors import EngineError
from hybridq.exchange import ncnn as table
from hybridq.exchange.onnx_float import float_file
from hybridq.exchange.records import ExportOptions
from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed, session

INT8_FLAG = (0x000D4B38).to_bytes(4, "little")
KINDS = {"Convolution": 2, "ConvolutionDepthWise": 1, "InnerProduct": 2}  # int8_scale_term as ncnn2int8 sets it
HAS_BIAS = {"Convolution": 5, "ConvolutionDepthWise": 5, "InnerProduct": 1}  # the place of bias_term
OUTPUTS = 0  # the place of num_output


@dataclass(frozen=True)
class Net:
    """A network; ncnn's own tensors have no batch axis. ``shapes`` are those of the outputs in the ONNX model."""

    ncnn: Any
    net: Any
    inputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def run(self, names: None, feed: Feed) -> Sequence[NDArray[Any]]:
        """Outputs in order."""
        with self.net.create_extractor() as run:
            for i, name in enumerate(self.inputs):
                run.input(f"in{i}", self.ncnn.Mat(np.ascontiguousarray(feed[name][0], np.float32)))
            found = (np.array(run.extract(f"out{i}")[1]) for i in range(len(self.shapes)))
            return [values.reshape(shape) for values, shape in zip(found, self.shapes, strict=True)]


@dataclass(frozen=True, slots=True)
class ParamLine:
    """A line of ``.param`` that has int8 kernels, and where its weights begin in ``.bin``."""

    line: int
    kind: str
    outputs: int
    weights: NDArray[np.float32]
    start: int
    has_bias: bool


def make(view: View, folder: Path, samples: Sequence[Feed]) -> tuple[str, ...]:
    """Both networks; what stays float is told. Raises EngineError where pnnx does not take the model."""
    shapes, repaired = [np.shape(samples[0][name]) for name in view.model.inputs], folder / "repaired.onnx"
    if any(shape[:1] != (1,) for shape in shapes):
        raise EngineError("ncnn computes one sample at a time", hint="Its inputs need a first axis of 1.")
    float_file(view, feed=samples[0]).write(repaired)
    _converted(write_float(view, folder / "float.onnx", samples[0]), shapes)
    param, data = _converted(repaired, shapes)
    scales, notes = _scales(view), list[str]()
    lines, changed = quantized(param.read_text(encoding="utf-8").splitlines(), data.read_bytes(), view, scales, notes)
    (folder / "int8.ncnn.param").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "int8.ncnn.bin").write_bytes(changed)
    return tuple(notes)


def opened(view: View, folder: Path, threads: int, feed: Feed) -> Loaded:
    """Both networks in ncnn. Raises EngineError where it does not take them."""
    import ncnn

    shapes = tuple(np.shape(v) for v in session(folder / "float.onnx", threads=threads).run(None, dict(feed)))
    given, int8 = (
        Net(ncnn, _opened(ncnn, folder / f"{name}.ncnn", threads), view.model.inputs, shapes)
        for name in ("float", "int8")
    )
    return Loaded(version("ncnn"), given, int8)


def _converted(path: Path, shapes: Sequence[tuple[int, ...]]) -> tuple[Path, Path]:
    """``.param`` and ``.bin`` of a model; pnnx is a program inside its wheel and writes beside the model."""
    found = find_spec("pnnx")
    assert found is not None
    assert found.origin is not None
    program = Path(found.origin).parent / "pnnx"
    told = ",".join(str(list(shape)).replace(" ", "") for shape in shapes)
    words = [str(program), path.name, f"inputshape={told}", "fp16=0"]
    done = subprocess.run(words, cwd=path.parent, capture_output=True, text=True, check=False)
    param, data = (path.with_name(f"{path.stem}.ncnn.{kind}") for kind in ("param", "bin"))
    if not (param.exists() and data.exists()):
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EngineError("pnnx does not take the model", path=path.name, hint="\n".join(said[-3:]))
    return param, data


def _scales(view: View) -> dict[str, tuple[NDArray[np.float32], np.float32]]:
    """By layer, the scales of its weights and of what it reads, as the calibration table has them."""
    written = next(iter(table.write(view, ExportOptions("model")).files.values()))
    assert isinstance(written, bytes)
    rows = dict(line.split(" ", 1) for line in written.decode().splitlines() if " " in line)
    found = {}
    for layer in view.layers:
        weights, source = rows.get(f"{layer.node}{table.WEIGHTS}"), rows.get(layer.node)
        if weights and source:
            found[layer.name] = np.array(weights.split(), np.float32), np.float32(source)
    return found


def quantized(
    lines: list[str],
    data: bytes,
    view: View,
    scales: dict[str, tuple[NDArray[np.float32], np.float32]],
    notes: list[str],
) -> tuple[list[str], bytes]:
    """``.param`` and ``.bin`` with the layers of ``scales`` in int8; ``notes`` names those that are not found."""
    lines, parts, end = list(lines), list[bytes](), 0
    known = {view.weights_of[name][0].tensor: name for name in scales}
    weights = {
        w.tensor: view.kept(w) for x in view.layers if x.op in table.KERNELS for w in view.weights_of.get(x.name, ())
    }
    places = {t: layer for t, layer in _layers(lines, data, weights) if t in known}
    for tensor in sorted(places, key=lambda t: places[t].start):
        layer = places[tensor]
        of_weights, of_input = scales[known[tensor]]
        size = layer.weights.nbytes
        bias = data[layer.start + size : layer.start + size + 4 * layer.outputs * layer.has_bias]
        integers = _integers(layer, of_weights)
        tail = of_weights.astype("<f4").tobytes() + of_input.astype("<f4").tobytes()
        parts += [data[end : layer.start - 4], INT8_FLAG, integers, bytes(-len(integers) % 4), bias, tail]
        end = layer.start + size + len(bias)
        lines[layer.line] += f" 8={KINDS[layer.kind]}"
    lost = [n for t, n in known.items() if t not in places]
    notes += [f"{len(lost)} layers stay float: pnnx changed their weights"] if lost else []
    return lines, b"".join([*parts, data[end:]])


def _integers(layer: ParamLine, scales: NDArray[np.float32]) -> bytes:
    """``round(w * scale)`` with halves away from zero, saturated at 127, as ncnn rounds."""
    rows = layer.weights.reshape(scales.size, -1).astype(np.float32) * scales[:, None]
    rounded = np.sign(rows) * np.floor(np.abs(rows) + np.float32(0.5))
    found: bytes = rounded.clip(-127, 127).astype(np.int8).tobytes()
    return found


def _layers(lines: list[str], data: bytes, weights: dict[str, NDArray[np.float32]]) -> Iterator[tuple[str, ParamLine]]:
    """Which line has which weights: both are in the order of ``.bin``."""
    rows = [(i, line.split()) for i, line in enumerate(lines) if line.split()[:1] and line.split()[0] in KINDS]
    starts = {t: data.find(np.ascontiguousarray(w, "<f4").tobytes()) for t, w in weights.items()}
    order = sorted((start, t) for t, start in starts.items() if start >= 0)
    for i, words in rows:
        values = {int(k): v for k, v in re.findall(r"(?:^| )(\d+)=(\S+)", " ".join(words))}
        size = int(values.get(6, values.get(2, "0")) if words[0] != "InnerProduct" else values[2])
        fitting = next(((s, t) for s, t in order if weights[t].size == size and _outputs(weights[t], values)), None)
        if fitting is not None:
            order.remove(fitting)
            has_bias = values.get(HAS_BIAS[words[0]], "0") == "1"
            yield fitting[1], ParamLine(i, words[0], int(values[OUTPUTS]), weights[fitting[1]], fitting[0], has_bias)


def _outputs(weights: NDArray[np.float32], values: dict[int, str]) -> bool:
    return int(weights.shape[0]) == int(values.get(OUTPUTS, "0"))


def _opened(ncnn: Any, path: Path, threads: int) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = max(1, threads)
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(f"{path}.param") or net.load_model(f"{path}.bin"):
        raise EngineError("ncnn does not load what was made for it", path=path.name)
    return net
