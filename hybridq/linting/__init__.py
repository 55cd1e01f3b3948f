"""Static findings: what will go wrong in 8 bits, told from ranges, weights and the graph alone.

Each names a layer, what will happen to it, and what to set. Step1 prints them; a search tries them.
"""

from hybridq.linting.facts import Finding
from hybridq.linting.run import RULES, lint

__all__ = ["RULES", "Finding", "lint"]
