"""``Writer``: the hybrid graph as it grows, with what may be shared and where the float model's tensors lie in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper

from hybridq.build.metadata import Copy
from hybridq.graph import edit
from hybridq.graph.onnx_file import LazyTensor
from hybridq.quant.qparams import QParams

Array = NDArray[Any]


LONG = 48  # characters of a name
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass
class Writer:
    """Nodes and initializers, in the order in which they are written.

    ``values`` has the float tensor that carries a canonical tensor's value where that has another name; ``integers``
    the integers behind a restored float tensor. ``quantizers`` is the domain of QuantizeLinear and DequantizeLinear.
    """

    given: GraphProto
    quantizers: str = ""
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: dict[str, LazyTensor] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    integers: dict[str, str] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    shared: dict[Hashable, str] = field(default_factory=dict)
    _names: edit.TakenNames = field(init=False)

    def __post_init__(self) -> None:
        names = edit.TakenNames.of(self.given)
        names.taken.update(n.name for n in self.given.node)
        self._names = names

    def fresh(self, name: str) -> str:
        """A free name like ``tensor/what it became``; a long tensor's name is cut, since many are made of it."""
        head, slash, tail = name.rpartition("/")
        if len(head) > LONG:
            head = f"{head[: LONG // 2]}~{head[-LONG // 2 :]}"
        return self._names.fresh(f"{head}{slash}{tail}")

    def once(self, key: Hashable, make: Callable[[], str]) -> str:
        """The tensor of a key, made when it is first asked for."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node; its name is short, since names are a good part of a small file."""
        domain = self.quantizers if op in QUANTIZERS else ""
        name = self.fresh(f"{op}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(op, inputs, [output], name, domain=domain, **attributes))
        return output

    def constant(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], make: Callable[[], Array]) -> str:
        """Add an initializer whose values are made when they are written."""
        name = self.fresh(name)
        self.tensors[name] = LazyTensor(name, dtype, shape, make)
        return name

    def small(self, name: str, values: Array) -> str:
        """Add a small initializer."""
        return self.constant(name, values.dtype, values.shape, lambda: values)

    def numbers(self, p: QParams, owner: str = "") -> list[str]:
        """Scale and zero point as initializers, shared by all who use the same and have no ``owner``."""
        scale, zero = p.scale, p.zero_point.astype(p.precision.numpy)
        held = (("scale", scale), ("zero_point", zero))
        return [
            self.once((word, owner, values.dtype, values.shape, values.tobytes()), partial(self._short, word, values))
            for word, values in held
        ]

    def _short(self, word: str, values: Array) -> str:
        return self.small(f"{word}_{len(self.tensors)}", values)
