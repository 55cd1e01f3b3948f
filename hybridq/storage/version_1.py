"""``model.json`` of version 1, restated as one of today's.

There all tensors of ``weights.data`` stood in one row, and prefixes of their names told initializers from what step1 or
a search had made; the cfg's digest stood among the samples; what a search found had replaced what step1 decided.
"""

from __future__ import annotations

from hybridq.storage.record_json import Json

FORMAT = "hybridq.model/1"
PREFIXES = {"biases": "hybridq:bias/", "rounded": "hybridq:weight/", "sample": "hybridq:sample/"}


def restated(data: Json) -> Json:
    """The object in a ``model.json`` of version 1 as one of version 2 would say it."""
    held, samples = data["weights"], data["samples"]
    rows: Json = {"tensors": {k: t for k, t in held["tensors"].items() if not k.startswith("hybridq:")}}
    for row, prefix in PREFIXES.items():
        rows[row] = {k.removeprefix(prefix): t for k, t in held["tensors"].items() if k.startswith(prefix)}
    cfg = {"sha256": samples["cfg"]}
    return {**data, "samples": {"count": samples["count"]}, "cfg": cfg, "weights": {**held, **rows}}
