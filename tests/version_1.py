"""``model.json`` as releases before version 2 wrote it, made of one of today's that no search has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybridq.files.seal import sealed

PREFIXES = {"biases": "hybridq:bias/", "rounded": "hybridq:weight/", "sample": "hybridq:sample/"}


def restated(data: dict[str, Any]) -> dict[str, Any]:
    """Without its digest; the same ``weights.data`` belongs to it."""
    held, said = dict(data["weights"]), {k: v for k, v in data.items() if k not in ("digest", "cfg")}
    tensors = dict(held["tensors"])
    for row, prefix in PREFIXES.items():
        tensors |= {prefix + name: place for name, place in held.pop(row).items()}
    samples = {**data["samples"], "cfg": data["cfg"]["sha256"]}
    return {**said, "format": "hybridq.model/1", "samples": samples, "weights": {**held, "tensors": tensors}}


def write(path: Path, data: dict[str, Any], *, seal: bool) -> None:
    """An object of version 1 as a file; the first release did not seal it."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    path.write_text(sealed(text) if seal else text, encoding="utf-8")
