"""Static findings: what will go wrong in 8 bits, told from ranges, weights and the graph alone."""

from hybridq.linting.facts import Finding
from hybridq.linting.run import RULES, lint

__all__ = ["RULES", "Finding", "lint"]
