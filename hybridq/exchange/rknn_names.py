"""How RKNN-Toolkit 1.x calls a tensor, and what that may be called here."""

from __future__ import annotations

import re
from collections.abc import Mapping

ID = re.compile(r"_\d+$")
MARK = re.compile(r"_acuity_mark_perm(_\d+)?$")  # a Transpose that Toolkit 1.x put beside the layer
ATTACHED = re.compile(r"attach_(.+)/out\d+")  # how Toolkit 1.x calls a model output
SUFFIX = re.compile(r":(weight|bias|in\d+|out(\d+))$")


def candidates(text: str, plain: Mapping[str, str]) -> list[str]:
    """What ``@{layer}_{id}:{slot}`` may be called here, the likeliest first.

    After the ONNX node or its output, at times with the operator's name or ``attach_`` before it. ``plain`` has our
    names by themselves without special characters (``plain_names``).
    """
    base = MARK.sub("", SUFFIX.sub("", text.removeprefix("@")))
    found = [ID.sub("", base), base]
    found += [m[1] for x in found if (m := ATTACHED.fullmatch(x))]
    found += [x.partition("_")[2] for x in found if x.partition("_")[2].startswith(x.partition("_")[0])]
    found += [plain[p] for x in found if (p := _plain(x)) in plain]
    return list(dict.fromkeys(found))


def plain_names(names: list[str]) -> dict[str, str]:
    """Names by themselves without special characters, where that leaves them apart."""
    found: dict[str, str] = {}
    clash: set[str] = set()
    for name in names:
        plain = _plain(name)
        if found.setdefault(plain, name) != name:
            clash.add(plain)
    return {k: v for k, v in found.items() if k not in clash}


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")
