"""What cannot be compared row by row: outputs that list what was chosen by score."""

from __future__ import annotations

from collections.abc import Iterator

from hybridq.graph.chosen import lists
from hybridq.linting.facts import Facts, Finding, names


def listed(facts: Facts) -> Iterator[Finding]:
    """Outputs whose rows TopK or NonMaxSuppression chose, all of them one finding."""
    found = lists(facts.model)
    if not found:
        return
    ends = dict.fromkeys(end for parts in found.values() for end in parts)
    others = [o for o in facts.model.outputs if o not in found and o not in ends]
    verb = "list" if len(found) > 1 else "lists"
    message = (
        f"{names(list(found))} {verb} what is chosen by score: where two scores are near, 8 bits change the places of "
        "rows, and row by row nothing is alike though the same is found"
    )
    remedy = f"--outputs {','.join([*ends, *others])} ends the model before the choice; or judge by --metric"
    yield Finding(next(iter(found)), "listed", message, remedy, "note")
