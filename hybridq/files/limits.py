"""The most bytes that a file of each kind may have: a larger one is something else, and is not read."""

from __future__ import annotations

CFG = 10_000_000  # a cfg of 2,000 layers has half a million
MARK = 10_000_000  # a list of names
FOREIGN = 200_000_000  # another toolchain's file, which may have a line a channel
LABELS = 10_000_000  # beside a metric; what is larger is data and no part of it
