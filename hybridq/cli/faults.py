"""What nobody foresaw: said in our words, with what a report of it needs; the traceback is for ``--verbose``."""

from __future__ import annotations

import shlex
import sys
import traceback
from pathlib import Path

from hybridq.errors import HybridqError, Problem
from hybridq.execution.versions import told, versions
from hybridq.graph.runtime import RuntimeModelError

PACKAGE = Path(__file__).parent.parent


def unforeseen(error: Exception) -> HybridqError:
    """An exception that is none of ours: the machine's limits, else a fault of hybridq."""
    if isinstance(error, OSError) and error.strerror:
        where = str(error.filename2 or error.filename or "standard output")
        return HybridqError(error.strerror.lower(), path=where, hint="Look at the disk and rights.")
    if isinstance(error, MemoryError):
        return HybridqError(
            "the memory is too small", hint="Take a machine with more, or fewer --samples and --workers."
        )
    words = "".join(traceback.format_exception(error))
    return HybridqError(_fault(f"{type(error).__name__}{_place(error)}", words))


def of_runtime(error: RuntimeModelError) -> HybridqError:
    """ONNX Runtime refused a model that hybridq made: nobody above knew better."""
    problem = error.problems[0]
    what = f"ONNX Runtime refuses what hybridq made: {problem.message}{_place(error)}"
    return HybridqError(_fault(what, problem.detail))


def _fault(what: str, detail: str) -> Problem:
    hint = f"""This is a fault of hybridq, not of your files. Please report it with
the command: {shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}
the versions: {told(versions())}
what `hybridq bundle DIR` makes, where there is a folder (no weights, samples or paths are in it), else the model (its
graph alone will do) and a sample, and what the command says with --verbose."""
    return Problem(what, hint=hint, code="fault", detail=detail)


def _place(error: Exception) -> str:
    """Where in hybridq it happened: `` (graph/analysis.py:12)``."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(f.filename).parents]
    last = frames[-1] if frames else None
    return f" ({Path(last.filename).relative_to(PACKAGE).as_posix()}:{last.lineno})" if last else ""
