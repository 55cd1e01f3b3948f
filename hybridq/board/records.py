"""What a folder of captured tensors holds, before any of them is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Captured:
    """One tensor in a file: ``name`` is the toolkit's for it. ``shape`` and ``nhwc`` as far as the form tells them."""

    name: str
    path: Path
    shape: tuple[int, ...] | None = None
    nhwc: bool | None = None


@dataclass(frozen=True, slots=True)
class Stated:
    """The cosine with float that the toolkit itself states: of its simulator, and of the device."""

    simulator: float | None = None
    device: float | None = None


@dataclass(frozen=True)
class Dump:
    """The tensors of each sample, by name. ``device``: not the toolkit's own simulator.

    ``given`` are tensors of the toolkit's float run, by which the sample is known; ``stated`` are its own figures.
    """

    title: str
    folder: Path
    samples: tuple[Mapping[str, Captured], ...]
    device: bool = True
    given: Mapping[str, Captured] = field(default_factory=dict)
    stated: Mapping[str, Stated] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name in any sample, in order."""
        return tuple(dict.fromkeys(name for sample in self.samples for name in sample))
