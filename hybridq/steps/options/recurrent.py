"""What may be asked of the loop of a recurrent model: its states, and where a sequence of samples ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from hybridq.errors import OptionError
from hybridq.graph.states import NONE
from hybridq.steps.options.validation import Checked, Number, Values

STATE = (
    "A state of a recurrent model: an input, and the output of the step before that it takes. Once a state; `none`: "
    "samples stand alone.  [default: what names and shapes say]"
)
SEQUENCE = (
    "Steps after which a new sequence begins.  [default: at blank lines of the list, and with every file that has a "
    "time axis]"
)


@dataclass(frozen=True, kw_only=True)
class StateOptions(Checked):
    """The states of a model. Raises OptionError for what does not exist or fit.

    ``state`` are pairs, each ``"IN=OUT"`` (or one mapping of inputs to outputs), or ``"none"``.
    """

    state: Annotated[Any, Values(STATE, "IN=OUT|none")] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "state", _pairs(self.state))

    @property
    def pairs(self) -> tuple[str, ...]:
        """The pairs as texts."""
        found: tuple[str, ...] = self.state
        return found


@dataclass(frozen=True, kw_only=True)
class LoopOptions(StateOptions):
    """How a recurrent model goes round."""

    sequence: Annotated[int | None, Number(SEQUENCE, 1, whole=True)] = None


def _pairs(given: object) -> tuple[str, ...]:
    if isinstance(given, Mapping):
        given = [f"{name}={output}" for name, output in given.items()]
    found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(one, str) for one in found):
        raise OptionError(f"state is pairs such as 'h=hn', not {given!r}")
    pairs = tuple(map(str, found))
    if NONE in pairs and len(pairs) > 1:
        raise OptionError("state says none and names pairs", hint="Give one of the two.")
    return pairs
