"""What a hybrid model says of itself: target, precisions of its layers, where the float model's tensors lie in it.

It stands in the ONNX file's metadata, so that whoever has the file can look it up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, helper

PREFIX = "hybridq."


@dataclass(frozen=True, slots=True)
class Copy:
    """What a float tensor of the hybrid model holds: ``tensor`` of the float model, stored and restored.

    ``pads`` is the initializer with the pads (of a Pad) by which zeros were appended to it, empty where none were.
    """

    tensor: str
    pads: str = ""


@dataclass(frozen=True, slots=True)
class Metadata:
    """``precisions`` has the final precision of every layer, ``asked`` the one asked for where that is another.

    ``copies`` are tensors of the hybrid model by name. Every other tensor of the float model keeps its name: there lies
    its value, as the layers that read it see it.
    """

    target: str
    precisions: Mapping[str, str]
    asked: Mapping[str, str]
    copies: Mapping[str, Copy]


def write_metadata(proto: ModelProto, metadata: Metadata) -> None:
    """Put metadata into a model."""
    words = {
        "target": metadata.target,
        "precisions": json.dumps(metadata.precisions),
        "asked": json.dumps(metadata.asked),
        "copies": json.dumps({name: [c.tensor, c.pads] for name, c in metadata.copies.items()}),
    }
    helper.set_model_props(proto, {PREFIX + key: word for key, word in words.items()})


def read_metadata(proto: ModelProto) -> Metadata | None:
    """The inverse of ``write_metadata``; None for a model that says nothing of this kind."""
    words = {p.key.removeprefix(PREFIX): p.value for p in proto.metadata_props if p.key.startswith(PREFIX)}
    try:
        copies = {name: Copy(*parts) for name, parts in json.loads(words["copies"]).items()}
        return Metadata(words["target"], json.loads(words["precisions"]), json.loads(words["asked"]), copies)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
