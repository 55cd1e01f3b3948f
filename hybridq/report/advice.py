"""One thing to do next, and which of several say something of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hybridq.report.gain import Gain

BETTER_DB = 1.0  # a gain worth an action


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: its ``kind``, what it does, on which layers, the gain where it is known, the command (or none).

    ``cause`` is what it mends, in a sentence; empty where there is nothing to mend. ``then`` are the commands that have
    to follow before there is a new report; empty where none has to.
    """

    kind: str
    why: str
    layers: tuple[str, ...] = ()
    gain: Gain | None = None
    command: str = ""
    cause: str = ""
    then: str = ""

    @property
    def commands(self) -> str:
        """All of them in one line to copy."""
        return " && ".join(filter(None, (self.command, self.then)))

    @property
    def aside(self) -> str:
        """What the command does not say by itself."""
        return "--merge keeps your edits" if "--merge" in self.command.split() else ""

    def __str__(self) -> str:
        return self.why + (f": {self.gain}" if self.gain else "")

    def after(self, first: Action) -> str:
        """What it does, and why where that is a finding of its own, not the cause that ``first`` mends."""
        own = self.kind == "raise" and self.cause and self.cause not in first.cause
        return f"{self}; {self.cause}" if own else str(self)


def distinct(actions: Iterable[Action]) -> Iterator[Action]:
    """Each action that adds something to those before it."""
    before: list[Action] = []
    for action in actions:
        if not any(_covers(one, action) or _is_part(action, one) for one in before):
            before.append(action)
            yield action


def _covers(one: Action, later: Action) -> bool:
    """Whether the later action is the same, or raises more layers, for the same cause or for no more gain."""
    if one.command == later.command:
        return True
    if not (one.kind == later.kind == "raise" and set(one.layers) <= set(later.layers)):
        return False
    if set(one.layers) == set(later.layers):
        return one.command.rsplit(maxsplit=1)[-1] == later.command.rsplit(maxsplit=1)[-1]
    if one.gain is None or later.gain is None:
        return later.gain is one.gain and later.cause == one.cause
    return one.gain.suffices or later.gain.least <= one.gain.least + BETTER_DB


def _is_part(later: Action, one: Action) -> bool:
    """Whether the later action raises a part of what an earlier one does, to the same precision, for no known gain."""
    same = (
        one.kind == later.kind == "raise"
        and one.command.rsplit(maxsplit=1)[-1:] == later.command.rsplit(maxsplit=1)[-1:]
    )
    return same and later.gain is None and set(later.layers) < set(one.layers)
