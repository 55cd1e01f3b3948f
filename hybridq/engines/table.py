"""Every runtime by name: the one table."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from hybridq.engines import litert, mnn, ncnn, onnxruntime, openvino
from hybridq.engines.records import Engine
from hybridq.errors import EngineError, OptionError
from hybridq.quant.words import nearest_hint

ENGINES: dict[str, Engine] = {
    "onnxruntime": Engine("ONNX Runtime", "", ("onnxruntime",), onnxruntime.make, onnxruntime.opened, any_shape=True),
    "openvino": Engine("OpenVINO", "openvino", ("openvino",), openvino.make, openvino.opened, any_shape=True),
    "ncnn": Engine("ncnn", "ncnn", ("ncnn", "pnnx"), ncnn.make, ncnn.opened),
    "mnn": Engine("MNN", "mnn", ("MNN",), mnn.make, mnn.opened),
    "litert": Engine(
        "LiteRT", "litert", ("ai_edge_litert", "ai_edge_quantizer"), litert.make, litert.opened, (litert.PROGRAM,)
    ),
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
    for program in found.programs:
        if shutil.which(program) is None:
            said = f"{found.title} needs the program {program}, which is not on the path"
            raise EngineError(said, hint=f"Install {program} in an environment of its own; add its folder to PATH.")
    return found


def is_here(name: str) -> bool:
    """Whether all that a runtime needs is installed."""
    found = ENGINES[name]
    return all(find_spec(m) for m in found.modules) and all(shutil.which(p) for p in found.programs)
