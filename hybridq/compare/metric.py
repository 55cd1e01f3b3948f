"""The user's figure of merit: a name, or ``module.py:function``, loaded and called with errors a person can act on."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from hybridq.compare.named import Against, Metric, Outputs, by_name
from hybridq.errors import HybridqError
from hybridq.files import limits
from hybridq.files.reading import look_at

__all__ = ["Metric", "Outputs", "bound", "evaluate", "load_function", "load_metric", "metric_digest", "metric_name"]

LABELS = (".txt", ".csv", ".tsv", ".json", ".npy", ".npz", ".names", ".labels", ".py")
MOST_BESIDE = 1000
HINT = "Give a Python file and a function in it, as in --metric score.py:accuracy."


def load_metric(spec: str, folder: Path | None = None) -> Metric:
    """The metric of a name, or the function that ``module.py:function`` names.

    Relative paths of a module start at ``folder`` (default: here).

    The function gets one dict a sample, output name to array, in the order of the dataset, and returns a number:
    higher is better. Raises HybridqError.
    """
    named = by_name(spec)
    if named is not None:
        return named
    metric: Metric = load_function(spec, folder)
    return metric


def load_function(spec: str, folder: Path | None = None, hint: str = HINT) -> Callable[..., Any]:
    """The function that ``module.py:function`` names; the file's own folder is importable while it loads.

    Raises HybridqError with ``hint``.
    """
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise HybridqError(f"'{spec}' names no function", hint=hint)
    path = (folder or Path()) / file
    look_at(path, HybridqError, hint=hint)
    module = _load(path)
    found = getattr(module, name, None)
    if not callable(found):
        others = [k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        said = f"It has {', '.join(others)}." if others else "It defines no function."
        raise HybridqError(f"has no function '{name}'", path=str(path), hint=said)
    function: Callable[..., Any] = found
    return function


def evaluate(metric: Metric, outputs: Sequence[Outputs], name: str) -> float:
    """The metric's value. Raises HybridqError with the user's own file and line when it fails or gives no number."""
    try:
        with redirect_stdout(sys.stderr):  # what it prints is for people; standard output may be JSON
            value = float(metric(list(outputs)))
    except (KeyboardInterrupt, HybridqError):  # the latter are in our own words, with a remedy
        raise
    except BaseException as error:  # sys.exit too: it would end the search without a word
        path, line = _place(error)
        raise HybridqError(f"the metric {name} failed: {_say(error)}", path=path, line=line) from error
    if not math.isfinite(value):
        raise HybridqError(f"the metric {name} gave {value}", hint="It must return a finite number, higher is better.")
    return value


def metric_name(metric: Metric) -> str:
    """What to call a metric in the report."""
    return str(getattr(metric, "__name__", None) or getattr(metric, "name", type(metric).__name__))


def bound(metric: Metric, reference: Sequence[Outputs]) -> Metric:
    """The metric with the float model's outputs at hand, where it compares with them."""
    return metric.bound(reference) if isinstance(metric, Against) else metric


def metric_digest(metric: Metric) -> str:
    """What a metric's figures depend on besides the outputs: its file, and the small data files that lie beside it.

    Empty where the function comes from no file. Labels are mostly read from a file next to the code; one that changed
    makes what was measured before void.
    """
    digest_of_data = getattr(metric, "digest", "")
    if digest_of_data:
        return str(digest_of_data)
    home = getattr(getattr(metric, "__code__", None), "co_filename", "")
    path = Path(home)
    if not home or not path.is_file():
        return ""
    digest = hashlib.sha256(path.read_bytes())
    for beside in sorted(path.parent.iterdir())[:MOST_BESIDE]:
        if beside.suffix.lower() in LABELS and beside.is_file() and beside.stat().st_size <= limits.LABELS:
            digest.update(beside.name.encode() + beside.read_bytes())
    return digest.hexdigest()


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_hybridq_metric_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise HybridqError("not a Python file", path=str(path), hint=HINT)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[spec.name] = module  # dataclasses and pickle look a class's module up by name
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise HybridqError(_say(error), path=error.filename or str(path), line=error.lineno or 0) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        place, line = _place(error)
        raise HybridqError(f"cannot be imported: {_say(error)}", path=place or str(path), line=line) from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _place(error: BaseException) -> tuple[str, int]:
    """Where the error was raised, the user's file and line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    own = [f for f in frames if Path(f.filename) != Path(__file__)]
    return (own[-1].filename, own[-1].lineno or 0) if own else ("", 0)


def _say(error: BaseException) -> str:
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # its own __str__ fails
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
