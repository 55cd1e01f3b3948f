"""A search on a case, and the reference by which damage is measured there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from random_graphs import Case

from hybridq.search.search import Budget, SearchOptions, SearchResult, search

SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "search-1.schema.json").read_text(encoding="utf-8"))


def find(case: Case, feeds: Any, budget: Budget | None = None, **more: Any) -> SearchResult:
    return search(case.model, case.weights, case.calibrated, feeds, budget, SearchOptions(**more))


def _reference(case: Case, feeds: Any) -> Any:
    from hybridq.graph.runtime import session
    from hybridq.search.measuring.damage import measure_reference

    return measure_reference(session(case.proto, threads=1), feeds, case.model)
