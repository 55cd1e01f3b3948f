"""Every runtime by name: the one table."""

from __future__ import annotations

from importlib.util import find_spec

from hybridq.engines import mnn, ncnn, onnxruntime, openvino
from hybridq.engines.records import Engine
from hybridq.errors import EngineError, OptionError
from hybridq.quant.words import nearest_hint

ENGINES: dict[str, Engine] = {
    "onnxruntime": Engine("ONNX Runtime", "", ("onnxruntime",), onnxruntime.load),
    "openvino": Engine("OpenVINO", "openvino", ("openvino",), openvino.load),
    "ncnn": Engine("ncnn", "ncnn", ("ncnn", "pnnx"), ncnn.load),
    "mnn": Engine("MNN", "mnn", ("MNN",), mnn.load),
}


def engine(name: str) -> Engine:
    """A runtime that is installed. Raises OptionError for no such name, EngineError with what installs it."""
    if name not in ENGINES:
        raise OptionError(f"there is no runtime {name!r}", hint=nearest_hint(name, list(ENGINES)))
    found = ENGINES[name]
    missing = [m for m in found.modules if find_spec(m) is None]
    if missing:
        said = f"{found.title} is not installed here: there is no module {' or '.join(missing)}"
        raise EngineError(said, hint=f"pip install 'hybridq[{found.extra}]'")
    return found
