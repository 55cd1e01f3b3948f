"""Samples to feeds: ``dataset.txt``, folders, archives and Python iterables; preprocessing; the audit of both.

Nothing is guessed: values enter as ``(x - mean) / std`` and as the options say, and the audit shows what came of it.
"""

from hybridq.dataset.audit import Audit, audit_dataset
from hybridq.dataset.feeds import Dataset
from hybridq.dataset.figures import AuditRow
from hybridq.dataset.opening import open_dataset
from hybridq.dataset.preprocessing import Anchor, ChannelOrder, Preprocessing, Resize
from hybridq.dataset.spec import InputSpec, Sample, input_specs

__all__ = [
    "Anchor",
    "Audit",
    "AuditRow",
    "ChannelOrder",
    "Dataset",
    "InputSpec",
    "Preprocessing",
    "Resize",
    "Sample",
    "audit_dataset",
    "input_specs",
    "open_dataset",
]
