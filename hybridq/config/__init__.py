"""The cfg: write it, check what a person made of it, change it from the command line.

``yaml`` (lines, problems, the reader), ``document`` (the parts), ``schema`` (what the schema says), ``names`` and
``selectors`` (who is meant), ``customized_layers`` and ``edits`` (what is asked), ``meaning`` (whether it can be),
``check`` (all of it in order).
"""

from hybridq.config.change import Change, is_precision, list_layers, set_layers, unset_layers
from hybridq.config.check import check, read_cfg, separate_of
from hybridq.config.merge import Proposal, is_edited, merge
from hybridq.config.problem_formats import to_github, to_json
from hybridq.config.write import write_cfg
from hybridq.config.yaml.text import decode, need_size

__all__ = [
    "Change",
    "Proposal",
    "check",
    "decode",
    "is_edited",
    "is_precision",
    "list_layers",
    "merge",
    "need_size",
    "read_cfg",
    "separate_of",
    "set_layers",
    "to_github",
    "to_json",
    "unset_layers",
    "write_cfg",
]
