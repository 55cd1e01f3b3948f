"""The few things that can go wrong, each naming its place and the remedy.

Everything a user can cause is a ``HybridqError``; the command line prints it without a traceback and exits with 1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong (or odd) in one place of a file.

    ``line`` and ``column`` count from 1; 0 means the whole file. ``end_column`` is exclusive. ``severity`` is
    ``"error"``, ``"warning"`` or ``"note"``. ``detail`` is what another tool said, for those who ask (``--verbose``).
    """

    message: str
    path: str = ""
    line: int = 0
    column: int = 0
    end_column: int = 0
    hint: str = ""
    source: str = ""
    severity: str = "error"
    code: str = ""
    detail: str = ""

    @property
    def place(self) -> str:
        """``file:line:column`` as far as it is known."""
        parts = [self.path] + [str(n) for n in (self.line, self.column) if n]
        return ":".join(p for p in parts if p)

    def __str__(self) -> str:
        """The problem as a compiler prints it: place, message, source line with a caret, remedy."""
        lines = [f"{self.place}: {self.message}" if self.place else self.message]
        if self.source:
            width = max(1, self.end_column - self.column)
            lines += [f"    {self.source}", "    " + " " * max(0, self.column - 1) + "^" * width]
        lines += [f"  {line}" for line in self.hint.splitlines()]
        return "\n".join(lines)


class HybridqError(Exception):
    """The input is wrong. ``problems`` lists everything found; ``str()`` prints them all."""

    def __init__(
        self, message: str | Problem | list[Problem], *, path: str = "", line: int = 0, hint: str = ""
    ) -> None:
        if isinstance(message, str):
            message = Problem(message, path=path, line=line, hint=hint)
        self.problems: list[Problem] = [message] if isinstance(message, Problem) else list(message)
        super().__init__("\n".join(str(p) for p in self.problems))


class OptionError(HybridqError, ValueError):
    """An option has a value that does not exist, or goes not with another: the command is wrong, not the input."""


class ModelError(HybridqError):
    """The ONNX model cannot be read, is invalid, or does not fit."""


class DatasetError(HybridqError):
    """The dataset, or one of its samples, cannot be used."""


class ConfigError(HybridqError):
    """The cfg asks for something that does not exist or cannot be."""


class BoardError(HybridqError):
    """Tensors captured on a device are missing, damaged, or of another model or sample."""


class EngineError(HybridqError):
    """A runtime is not installed, or does not take the model."""


class StorageError(HybridqError):
    """A file hybridq wrote is missing, damaged, or of another version."""
