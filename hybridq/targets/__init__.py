"""Targets as data: what a toolchain or runtime can take, one JSON file a target."""

from hybridq.targets.targets import Support, Target, load, names

__all__ = ["Support", "Target", "load", "names"]
