"""What is on disk is what was written: digests of files, and JSON that carries the digest of its own text."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from hybridq.errors import StorageError
from hybridq.files.reading import look_at, read_text, said

LINE = re.compile(r'  "digest": "([0-9a-f]{64})",?')


def text_digest(text: str) -> str:
    """SHA-256 of a text's UTF-8, as hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a regular file's bytes, as hexadecimal digits. Raises StorageError."""
    look_at(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"cannot be read: {said(error)}", path=str(path)) from error


def sealed(text: str) -> str:
    """A JSON object that begins with ``{`` on a line of its own, with the digest of that text as its first member."""
    head, rest = text.split("\n", 1)
    return f'{head}\n  "digest": "{text_digest(text)}",\n{rest}'


def read_sealed(path: Path, versions: tuple[str, ...], hint: str, unsealed: str = "", **words: Any) -> dict[str, Any]:
    """The object of a sealed file whose ``format`` is one of ``versions``, today's first.

    Raises StorageError where it is of another, or where its text is not the one that was written; ``unsealed``
    says what a file without any digest may be, and then `hybridq upgrade` is the remedy.
    """
    text = read_text(path, hint=hint, **words)
    try:
        data = json.loads(text)
        found = data["format"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise StorageError("damaged: not hybridq's JSON", path=str(path), hint=hint) from error
    if found not in versions:
        raise StorageError(f"format {found!r}, but this hybridq reads {versions[0]!r}", path=str(path), hint=hint)
    head, line, rest = [*text.split("\n", 2), "", ""][:3]
    digest = LINE.fullmatch(line)
    if unsealed and "digest" not in data:
        remedy = "`hybridq upgrade` makes a folder of today's of an earlier one."
        raise StorageError(unsealed, path=str(path), hint=remedy)
    if digest is None or text_digest(f"{head}\n{rest}") != digest[1]:
        raise StorageError("damaged or edited: it is not what hybridq wrote", path=str(path), hint=hint)
    return dict(data)
