"""What the value of an option may be: validated once, for the command line and for Python alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from inspect import Parameter, signature
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from hybridq.dataset.preprocessing import size_of
from hybridq.errors import OptionError
from hybridq.quant.words import nearest_hint, no_such_word, number_of, word_of

F = TypeVar("F", bound=Callable[..., Any])


class OptionKind(Protocol):
    """What an option's value may be."""

    @property
    def help(self) -> str:
        """What people read about it."""

    def checked(self, given: Any, name: str) -> Any:
        """The value as the step uses it. Raises OptionError that names the option and the remedy."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    help: str

    def checked(self, given: Any, name: str) -> bool:
        """A bool and nothing that merely counts as one."""
        if not isinstance(given, bool):
            raise OptionError(f"{name} is True or False, not {given!r}")
        return given


@dataclass(frozen=True, slots=True)
class Number:
    """A number from ``low`` to ``high``; ``above``: not ``low`` itself."""

    help: str
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False

    def checked(self, given: Any, name: str) -> float:
        """A finite number within the limits."""
        return number_of(given, name, self.low, self.high, whole=self.whole, above=self.above)


@dataclass(frozen=True, slots=True)
class OneWord:
    """One word of an enum."""

    help: str
    enum: type[StrEnum]
    among: tuple[StrEnum, ...] = ()  # empty: every word

    @property
    def words(self) -> list[str]:
        """What may be said."""
        return [str(w) for w in self.among or self.enum]

    def checked(self, given: Any, name: str) -> StrEnum:
        """The enum's member."""
        if given not in self.words:
            raise no_such_word(given, self.words, name)
        return word_of(self.enum, given, name)


@dataclass(frozen=True, slots=True)
class Named:
    """One word of a list that is known only when the program runs."""

    help: str
    known: Callable[[], list[str]]

    @property
    def words(self) -> list[str]:
        """What may be said."""
        return self.known()

    def checked(self, given: Any, name: str) -> str:
        """The word."""
        if given not in self.words:
            raise no_such_word(given, self.words, name)
        return str(given)


@dataclass(frozen=True, slots=True)
class SeveralNames:
    """Several names; ``A,B`` on the command line."""

    help: str

    def checked(self, given: Any, name: str) -> tuple[str, ...]:
        """Every name; one text alone is refused, for its letters would be the names."""
        if isinstance(given, str):
            raise OptionError(f"{name} is a list of names, not the text {given!r}", hint=f"Write {name}=[{given!r}].")
        found = tuple(given) if isinstance(given, Iterable) else (given,)
        if not isinstance(given, Iterable) or not all(isinstance(one, str) for one in found):
            raise OptionError(f"{name} is a list of names, not {given!r}")
        return found


@dataclass(frozen=True, slots=True)
class Extent:
    """Height and width; ``HxW`` on the command line."""

    help: str

    def checked(self, given: Any, name: str) -> tuple[int, int] | None:
        """Two whole numbers."""
        return size_of(given, name)


@dataclass(frozen=True, slots=True)
class SeveralWords:
    """Several words of an enum; ``A,B`` on the command line."""

    help: str
    enum: type[StrEnum]

    def checked(self, given: Any, name: str) -> tuple[StrEnum, ...]:
        """The enum's members."""
        return tuple(word_of(self.enum, one, name) for one in SeveralNames(self.help).checked(given, name))


@dataclass(frozen=True, slots=True)
class AnyText:
    """Any text. ``form`` shows people what it looks like."""

    help: str
    form: str

    def checked(self, given: Any, name: str) -> str:
        """The text."""
        if not isinstance(given, str) or not given:
            raise OptionError(f"{name} is {self.form}, not {given!r}")
        return given


@dataclass(frozen=True, slots=True)
class Values:
    """One value or several, in any form that their reader knows and checks."""

    help: str
    form: str

    def checked(self, given: Any, name: str) -> Any:
        """As given."""
        return given


class Checked:
    """A frozen dataclass whose fields ``name: Annotated[type, kind]`` are options: each is checked when it is made."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        for one in asked(type(self)):
            given = getattr(self, one.name)
            if given is not None or one.default is not None:
                object.__setattr__(self, one.name, one.kind.checked(given, one.name))


@dataclass(frozen=True, slots=True)
class Option:
    """One option: None as default means that nothing is asked for."""

    name: str
    default: Any
    kind: OptionKind


def asked(options: type[Checked]) -> tuple[Option, ...]:
    """The fields that a person may give as words, in order."""
    hints = get_type_hints(options, include_extras=True)
    notes = {f.name: getattr(hints[f.name], "__metadata__", ()) for f in fields(options)}
    return tuple(Option(f.name, f.default, *notes[f.name]) for f in fields(options) if notes[f.name])


def takes(*options: type[Checked]) -> Callable[[F], F]:
    """Show the fields of ``options`` as keyword arguments of a function that takes them as ``**options``."""

    def told(function: F) -> F:
        known = signature(function)
        own = [p for p in known.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        new = {f.name: f for each in options for f in fields(each) if f.name not in known.parameters}.values()
        more = [Parameter(f.name, Parameter.KEYWORD_ONLY, default=_default(f), annotation=f.type) for f in new]
        function.__signature__ = known.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        return function

    return told


def _default(of: Field[Any]) -> Any:
    return of.default if of.default is not MISSING else of.default_factory() if callable(of.default_factory) else None


Options = TypeVar("Options", bound=Checked)


def read(options: type[Options], given: dict[str, Any]) -> Options:
    """``options`` made of what a person gave. Raises OptionError for a name that is no option of theirs."""
    return options(**share(given, options)[0])


def share(given: dict[str, Any], *options: type[Checked]) -> list[dict[str, Any]]:
    """Of what a person gave, what is each one's: what several know goes to all. Raises OptionError for the rest."""
    known = [{f.name for f in fields(each)} for each in options]
    for name in given:
        if not any(name in names for names in known):
            raise OptionError(f"there is no option {name!r}", hint=nearest_hint(name, sorted(set().union(*known))))
    return [{k: v for k, v in given.items() if k in names} for names in known]


def need_one_place(workers: int, cluster: str | None) -> None:
    """Refuse processes beside a cluster. Raises OptionError."""
    if cluster is not None and workers > 1:
        raise OptionError("a cluster has workers of its own", hint="Give cluster or workers.")
