"""The cfg: write it, check what a person made of it, change it from the command line.

``text`` (lines and problems), ``flow`` and ``yaml`` (the reader), ``schema`` (shape), ``names`` and ``selectors`` (who
is meant), ``choices`` and ``edits`` (what is asked), ``meaning`` (whether it can be), ``check`` (all of it in order).
"""

from hybridq.config.check import check, read_cfg
from hybridq.config.text import decode
from hybridq.config.write import write_cfg

__all__ = ["check", "decode", "read_cfg", "write_cfg"]
