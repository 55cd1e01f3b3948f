"""ONNX Runtime as we use it: quiet, on the CPU, with the threads asked for, errors in our words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from hybridq.errors import ModelError
from hybridq.graph.outside import root
from hybridq.graph.saturation import EXACT, IN_THE_WAY, apart, saturates
from hybridq.graph.watch import LIMIT, WATCH
from hybridq.graph.words import explained

Feed = Mapping[str, NDArray[Any]]
Session: TypeAlias = ort.InferenceSession

LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
GRAPH = onnx.AttributeProto.GRAPH
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
FOLDER = "session.model_external_initializers_file_folder_path"  # of weights beside a serialized model
SILENT, WARNINGS = 4, 2  # its errors come as exceptions, in our words
_settings = {"severity": SILENT}
_float_inputs: WeakKeyDictionary[Session, dict[str, np.dtype[Any]]] = WeakKeyDictionary()


class RuntimeModelError(ModelError):
    """ONNX Runtime does not load or run a model; the problem's ``detail`` has its own words.

    Who knows whose model or sample it was says so; where nobody does, it is a fault of hybridq.
    """


def set_verbose(verbose: bool) -> None:
    """Show ONNX Runtime's own warnings (``--verbose``); they are hidden by default."""
    _settings["severity"] = WARNINGS if verbose else SILENT
    ort.set_default_logger_severity(_settings["severity"])


def is_verbose() -> bool:
    """Whether a person asked for ONNX Runtime's own words."""
    return _settings["severity"] == WARNINGS


def options(*, threads: int = 0, level: str = "all") -> ort.SessionOptions:
    """Session options: ``threads`` 0 means all cores, ``level`` one of ``none basic extended all``."""
    found = ort.SessionOptions()
    found.intra_op_num_threads = threads
    found.inter_op_num_threads = 1
    found.log_severity_level = _settings["severity"]
    found.graph_optimization_level = LEVELS[level]
    return found


def session(
    model: onnx.ModelProto | bytes | Path | str,
    *,
    threads: int = 0,
    level: str = "all",
    session_options: ort.SessionOptions | None = None,
    disabled_optimizers: list[str] | None = None,
) -> Session:
    """A session on the CPU; ``bytes`` are a serialized model. Raises ModelError when ONNX Runtime refuses the model.

    A graph in memory that has subgraphs does not end the process: what ONNX Runtime dies of there is left out.
    """
    set_verbose(is_verbose())
    chosen = session_options or options(threads=threads, level=level)
    data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    source = data if isinstance(data, bytes) else str(data)
    if isinstance(data, bytes):
        chosen.add_session_config_entry(FOLDER, str(root()))
    without = [*(disabled_optimizers or []), *_deadly(model)]
    try:
        return _exact(model, source, chosen, without) if saturates() else _made(source, chosen, without)
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise RuntimeModelError(explained(error, "the model")) from error


def _made(source: bytes | str, chosen: ort.SessionOptions, without: list[str]) -> Session:
    return ort.InferenceSession(source, chosen, providers=["CPUExecutionProvider"], disabled_optimizers=without)


def _exact(
    model: onnx.ModelProto | bytes | Path | str, source: bytes | str, chosen: ort.SessionOptions, without: list[str]
) -> Session:
    """A session that does not saturate, or one as it is where ONNX Runtime knows no remedy."""
    chosen.add_session_config_entry(EXACT, "1")
    with suppress(Exception):  # its exceptions share no public base class
        return _made(source, chosen, [*without, IN_THE_WAY])
    with suppress(Exception):
        return _made(apart(_proto(model)).SerializeToString(), chosen, [*without, IN_THE_WAY])
    chosen.add_session_config_entry(EXACT, "0")
    return _made(source, chosen, without)


def _proto(model: onnx.ModelProto | bytes | Path | str) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    return onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load_model(model)


def _deadly(model: object) -> list[str]:
    """The optimizers that may end the process: one follows a tensor into a subgraph as if it were its node's input."""
    nodes = model.graph.node if isinstance(model, onnx.ModelProto) else ()
    return ["QDQPropagationTransformer"] if any(a.type == GRAPH for n in nodes for a in n.attribute) else []


def loads(model: onnx.ModelProto | Path) -> bool:
    """Whether ONNX Runtime takes a model."""
    try:
        session(model, threads=1, level="none")
    except RuntimeModelError:
        return False
    return True


def expose(proto: onnx.ModelProto, tensors: Iterable[str]) -> None:
    """Let a model give inner tensors as outputs, too, after those it has."""
    known = {o.name for o in proto.graph.output}
    names = (t for t in dict.fromkeys(tensors) if t not in known)
    proto.graph.output.extend(onnx.ValueInfoProto(name=t) for t in names)


def run(one: Session, feed: Feed, names: list[str] | None = None) -> list[NDArray[Any]]:
    """Outputs for one feed, which stays as it is. Raises ModelError with ONNX Runtime's reason."""
    with watched() as options:
        outputs: list[NDArray[Any]] = one.run(names, taken(one, feed), options)
    return outputs


def taken(one: Session, feed: Feed) -> dict[str, NDArray[Any]]:
    """A feed as a session may have it: a model in float32 takes float16, too, and the reverse.

    ONNX Runtime writes vectors, the running mean and variance of a BatchNormalization in training mode, into what it is
    fed: they are copied.
    """
    if one not in _float_inputs:
        _float_inputs[one] = {i.name: np.dtype(FLOATS[i.type]) for i in one.get_inputs() if i.type in FLOATS}
    wanted = _float_inputs[one]
    return {name: _as_taken(value, wanted.get(name)) for name, value in feed.items()}


def _as_taken(value: NDArray[Any], dtype: np.dtype[Any] | None) -> NDArray[Any]:
    if dtype is not None and value.dtype != dtype and value.dtype in FLOATS.values():
        return value.astype(dtype)
    return value.copy() if np.ndim(value) == 1 else value


@contextmanager
def watched() -> Iterator[ort.RunOptions]:
    """Options for a run that is ended where it does not end by itself; its errors are ModelErrors."""
    with WATCH.over() as found:
        try:
            yield found.options
        except Exception as error:
            if found.ended:
                hint = "Look for a Loop whose condition never becomes false."
                raise ModelError(f"a run of the model did not end within {LIMIT:.0f} s", hint=hint) from error
            raise RuntimeModelError(explained(error, "the model")) from error
