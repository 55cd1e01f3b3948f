"""``Writer``: the hybrid graph as it grows, with what may be shared and where the float model's tensors lie in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper

from hybridq.build.metadata import Copy
from hybridq.graph import edit
from hybridq.graph.onnx_file import LazyTensor
from hybridq.quant.qparams import QParams

Array = NDArray[Any]


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

    def __post_init__(self) -> None:
        self.fresh = edit.Names.of(self.given).fresh

    def once(self, key: Hashable, make: Callable[[], str]) -> str:
        """The tensor of a key, made when it is first asked for."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node named after its output."""
        domain = self.quantizers if op in QUANTIZERS else ""
        self.nodes.append(helper.make_node(op, inputs, [output], f"{output}/{op}", domain=domain, **attributes))
        return output

    def constant(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], make: Callable[[], Array]) -> str:
        """Add an initializer whose values are made when they are written."""
        name = self.fresh(name)
        self.tensors[name] = LazyTensor(name, dtype, shape, make)
        return name

    def small(self, name: str, values: Array) -> str:
        """Add a small initializer."""
        return self.constant(name, values.dtype, values.shape, lambda: values)

    def numbers(self, name: str, p: QParams) -> list[str]:
        """Scale and zero point as initializers, shared by all who use the same."""
        key = (p.precision, p.scale.tobytes(), p.zero_point.tobytes(), p.axis)
        scale = self.once(("scale", *key), lambda: self.small(f"{name}/scale", p.scale))
        zero = p.zero_point.astype(p.precision.numpy)
        return [scale, self.once(("zero_point", *key), lambda: self.small(f"{name}/zero_point", zero))]
