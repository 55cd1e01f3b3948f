"""Score the demo's model in float32, all in 8 bits, and with the decode in float32, with ONNX Runtime's own quantizer.

An independent witness that 8 bits hurt this model, whoever quantizes it: QDQ, min/max over the calibration pictures,
uint8 activations per tensor, int8 symmetric weights per channel.

    python demos/measure_demo.py
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from hybridq import demo

DECODE = ("/decode/Mul", "/decode/Add")
SIGMOID = "/decode/Sigmoid"
HEAD = ("/head/Conv", SIGMOID)


class Pictures(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime ships no types
    """The calibration pictures as ONNX Runtime's quantizer wants them."""

    def __init__(self) -> None:
        self.feeds: Iterator[demo.Feed] = iter(feed for feed, _ in demo.calibration())

    def get_next(self) -> demo.Feed | None:
        """The next picture, None after the last."""
        return next(self.feeds, None)


def run(path: Path) -> list[dict[str, NDArray[np.float32]]]:
    """Answers to the evaluation pictures, one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed, _ in demo.evaluation()]


def quantized(path: Path, float_nodes: Sequence[str] = (), only: Sequence[str] | None = None) -> Path:
    """Quantize the demo's model but for ``float_nodes``, or the nodes ``only``, into ``path``."""
    quantize_static(
        demo.model_path(),
        path,
        Pictures(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(float_nodes),
        nodes_to_quantize=only,
        calibration_providers=["CPUExecutionProvider"],
    )
    return path


def main() -> None:
    """Print a Markdown table."""
    logging.disable(logging.WARNING)
    nodes = [n.name for n in onnx.load(demo.model_path()).graph.node]
    reference = run(demo.model_path())
    print("| model | AP50 | F1 | F1 against float |\n|---|---|---|---|")
    rows: list[tuple[str, Sequence[str], Sequence[str] | None]] = [
        ("all 8 bit", (), None),
        ("8 bit, `/decode/Mul` float32", DECODE[:1], None),
        ("8 bit, `/decode/Add` float32", DECODE[1:], None),
        ("8 bit, both float32", DECODE, None),
        ("8 bit, both and the head float32", (*HEAD, *DECODE), None),
        ("float32, both 8 bit", (), DECODE),
        ("float32, but for the head and both", (), (*HEAD, *DECODE)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for title, excluded, only in [("float32", nodes, None), *rows]:
            outputs = reference if title == "float32" else run(quantized(path, excluded, only))
            s = demo.score(outputs, reference)
            print(f"| {title} | {s['ap50']:.3f} | {s['f1']:.3f} | {s['f1_vs_float']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
