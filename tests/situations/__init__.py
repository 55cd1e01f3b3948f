"""Small models, each a situation that exporters and people bring about, for ``test_situations``."""

from __future__ import annotations

from situations import (
    empties,
    endings,
    files,
    fusions,
    infinities,
    operators,
    optimized,
    parameters,
    ranges,
    shapes,
    subgraphs,
)
from situations.common import Situation

MODULES = (parameters, infinities, empties, endings, shapes, subgraphs, fusions, operators, ranges, optimized, files)
ALL: dict[str, Situation] = {
    f"{module.__name__.rpartition('.')[2]}-{name}": held for module in MODULES for name, held in module.CASES.items()
}
