"""Does a second engine compute what a portable model says? OpenVINO against ONNX Runtime at ORT_DISABLE_ALL.

    python bench/portable.py --zoo ../shared/zoo      needs the extra ``hybridq[openvino]``

A model is compared in two ways. *Whole*: SQNR over all outputs of all samples. Rounding ties, which float arithmetic
decides either way, grow from layer to layer here, so the figure is bounded by the model's own quantization noise: the
last column is ONNX Runtime against itself (ORT_ENABLE_ALL). *Layer by layer*: every layer reads the values that ONNX
Runtime computed, so that nothing grows; what then differs, other than by a tie, is a layer computed differently.
OpenVINO drops int16 pairs of QuantizeLinear and DequantizeLinear: it neither rounds nor saturates there.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import hybridq
from hybridq.graph import runtime

Array = NDArray[Any]
Feed = Mapping[str, Array]
MODELS = ("yunet_n", "fastestdet", "squeezenet")
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def portable_model(m: Any, work: Path, precision: str = "uint8", samples: int = 20) -> onnx.ModelProto:
    """Steps 1 and 2 with ``--portable`` on a model of the zoo."""
    hybridq.step1(m.model_path, list(islice(m.calibration(), samples)), work, dtype=precision)
    return onnx.load(hybridq.step2(work, portable=True).path)


def evaluation(m: Any, count: int) -> list[Feed]:
    """The first feeds of the zoo's evaluation samples."""
    return [feed for feed, _ in islice(m.evaluation(), count)]


def openvino_runs(model: onnx.ModelProto, feeds: Iterable[Feed]) -> list[list[Array]]:
    """Outputs for every feed, in the order of the model's outputs."""
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", SETTINGS)
    results = [compiled(dict(feed)) for feed in feeds]
    return [[np.array(r[i]) for i in range(len(model.graph.output))] for r in results]


def onnxruntime_runs(model: onnx.ModelProto, feeds: Iterable[Feed], level: str = "none") -> list[list[Array]]:
    """The same from ONNX Runtime at an optimization level."""
    session = runtime.session(model, threads=1, level=level)
    return [runtime.run(session, feed) for feed in feeds]


def sqnr(reference: list[list[Array]], candidate: list[list[Array]]) -> float:
    """Signal to noise in dB over all outputs of all samples together."""
    want = np.concatenate([np.float64(a).ravel() for one in reference for a in one])
    have = np.concatenate([np.float64(a).ravel() for one in candidate for a in one])
    return float(10 * np.log10((want**2).sum() / max(((want - have) ** 2).sum(), 1e-30)))


def apart(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, float]]:
    """The model with every stored activation an output, which layers read from an input instead; steps of each.

    The input that stands for the activation ``t`` is ``t/given``; its values are quantized again, which keeps them.
    """
    constants = {t.name: t for t in model.graph.initializer}
    quantizers = {n.output[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear"}
    steps: dict[str, float] = {}
    split = onnx.ModelProto()
    split.CopyFrom(model)
    outputs = {o.name for o in model.graph.output}
    stored = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in quantizers}
    del split.graph.node[:], split.graph.value_info[:]
    for name, node in stored.items():
        quantizer = quantizers[node.input[0]]
        if quantizer.input[0] in {i.name for i in model.graph.input}:
            continue
        steps[name] = float(numpy_helper.to_array(constants[node.input[1]]))
        again = [f"{name}/given", f"{name}/given/integers", f"{name}/given/read"]
        split.graph.node.append(helper.make_node("QuantizeLinear", [again[0], *quantizer.input[1:]], again[1:2]))
        split.graph.node.append(helper.make_node("DequantizeLinear", [again[1], *node.input[1:]], again[2:]))
        split.graph.input.append(helper.make_tensor_value_info(again[0], TensorProto.FLOAT, None))
    for node in model.graph.node:
        copy = split.graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [f"{i}/given/read" if i in steps else i for i in node.input]
    split.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in steps if n not in outputs
    )
    return split, steps


def layer_by_layer(model: onnx.ModelProto, feed: Feed) -> tuple[float, float]:
    """Of all stored activations: the share of integers that differ, and by how many steps the worst does."""
    split, steps = apart(model)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    have = {o.name for o in model.graph.output}
    exposed.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in steps if n not in have
    )
    values = _named(exposed, onnxruntime_runs(exposed, [feed])[0])
    given = {f"{n}/given": values[n] for n in steps}
    for value in split.graph.input:
        if value.name in given:
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, given[value.name].shape))
    found = _named(split, openvino_runs(split, [{**feed, **given}])[0])
    by = [np.rint(np.abs(found[n] - values[n]) / step).ravel() for n, step in steps.items()]
    every = np.concatenate(by) if by else np.zeros(1)
    return float((every > 0).mean()), float(every.max())


def _named(model: onnx.ModelProto, outputs: list[Array]) -> dict[str, Array]:
    return dict(zip((o.name for o in model.graph.output), outputs, strict=True))


def load_zoo(folder: Path) -> ModuleType:
    """The zoo's loader."""
    spec = importlib.util.spec_from_file_location("zoo", folder / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the model zoo")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--precisions", nargs="*", default=["uint8", "int16", "float16"])
    args = parser.parse_args()
    zoo = load_zoo(args.zoo)
    print(f"openvino {openvino.__version__}; SQNR in dB against ORT_DISABLE_ALL")
    print(f"{'model':24s} {'OpenVINO':>9s} {'ORT_ENABLE_ALL':>15s}   layer by layer: differing, worst step")
    with tempfile.TemporaryDirectory() as work:
        for name in MODELS:
            m = zoo.load(name)
            feeds = evaluation(m, args.samples)
            for precision in args.precisions:
                model = portable_model(m, Path(work) / f"{name}-{precision}", precision)
                plain = onnxruntime_runs(model, feeds)
                whole = sqnr(plain, openvino_runs(model, feeds))
                itself = sqnr(plain, onnxruntime_runs(model, feeds, "all"))
                share, step = layer_by_layer(model, feeds[0])
                print(
                    f"{name + ' ' + precision:24s} {whole:9.1f} {itself:15.1f}   {share:8.5%} {step:4.0f}", flush=True
                )


if __name__ == "__main__":
    main()
