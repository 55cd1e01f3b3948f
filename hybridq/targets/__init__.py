"""Targets as data: what a toolchain or runtime can take, one JSON file a target."""

from hybridq.targets.targets import Storage, Support, Target, load, names

__all__ = ["Storage", "Support", "Target", "load", "names"]
