"""MNN: both models converted by its own converter, the hybrid one with the compression parameters of ``step4``."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.engines.records import Loaded, write_float
from hybridq.errors import EngineError
from hybridq.exchange import mnn as parameters
from hybridq.exchange.onnx_float import float_file
from hybridq.exchange.records import ExportOptions
from hybridq.exchange.view import View
from hybridq.graph.runtime import Feed

CONVERT = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


@dataclass(frozen=True)
class MnnSession:
    """One session; inputs are copied in anew for every run, for MNN uses their memory again."""

    mnn: Any
    interpreter: Any
    session: Any
    outputs: tuple[str, ...]

    def run(self, names: None, feed: Feed) -> Sequence[NDArray[Any]]:
        """Outputs in the model's order."""
        for name, values in feed.items():
            tensor = self.interpreter.getSessionInput(self.session, name)
            held = np.ascontiguousarray(values, np.float32)
            caffe = self.mnn.Tensor_DimensionType_Caffe
            tensor.copyFrom(self.mnn.Tensor(values.shape, self.mnn.Halide_Type_Float, held, caffe))
        self.interpreter.runSession(self.session)
        return [self._output(name) for name in self.outputs]

    def _output(self, name: str) -> NDArray[Any]:
        tensor = self.interpreter.getSessionOutput(self.session, name)
        shape = tensor.getShape()
        room = np.zeros(shape, np.float32)
        host = self.mnn.Tensor(shape, self.mnn.Halide_Type_Float, room, self.mnn.Tensor_DimensionType_Caffe)
        tensor.copyToHostTensor(host)
        return np.array(host.getData(), np.float32).reshape(shape)


def make(view: View, folder: Path, samples: Sequence[Feed]) -> tuple[str, ...]:
    """Both converted."""
    source, table = folder / "repaired.onnx", folder / "compression.json"
    float_file(view, feed=samples[0]).write(source)
    written = next(iter(parameters.write(view, ExportOptions("model")).files.values()))
    assert isinstance(written, bytes)
    table.write_bytes(written)
    _converted(write_float(view, folder / "float.onnx", samples[0]), folder / "float.mnn")
    _converted(source, folder / "hybrid.mnn", table)
    return ()


def opened(view: View, folder: Path, threads: int, feed: Feed) -> Loaded:
    """A session of each."""
    with _silent():
        import MNN

        paths = (folder / f"{name}.mnn" for name in ("float", "hybrid"))
        given, hybrid = (_opened(MNN, path, view.model.outputs, threads) for path in paths)
    return Loaded(version("MNN"), given, hybrid)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what the library prints by itself, past Python, out of our output, which may be JSON."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        if library is not None:
            library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _converted(source: Path, out: Path, table: Path | None = None) -> Path:
    """A model in MNN's form; the converter runs in a process of its own, for it prints what it likes."""
    words = ["-f", "ONNX", "--modelFile", source, "--MNNModel", out, "--bizCode", "hybridq"]
    words += ["--compressionParamsFile", table] if table else []
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode or not out.exists():
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EngineError("MNN's converter does not take the model", path=source.name, hint="\n".join(said[-3:]))
    return out


def _opened(mnn: Any, path: Path, outputs: tuple[str, ...], threads: int) -> MnnSession:
    interpreter = mnn.Interpreter(str(path))
    words = {"backend": "CPU", "precision": "high", "numThread": max(1, threads)}
    return MnnSession(mnn, interpreter, interpreter.createSession(words), outputs)
