"""``Bound``: a session that writes its outputs into memory it is given, so that runs neither copy nor allocate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from hybridq.graph import runtime
from hybridq.graph.runtime import Feed, RuntimeModelError, Session

Array = NDArray[Any]
NO_GRAPH = ("gpu_graph_id", "-1")  # of kernels on a GPU; where it is not set the lookup's exception takes 80 us a run


@dataclass(eq=False)
class Bound:
    """Outputs ``names`` of ``one``; those that have an array ``into`` which they are written lie there."""

    one: Session
    names: Sequence[str]
    into: Mapping[str, Array] = field(default_factory=dict)
    binding: ort.IOBinding | None = field(init=False, default=None)
    held: dict[str, Array] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        kinds = {o.name: o.type for o in self.one.get_outputs()}
        if self.into and all(kinds[name].startswith("tensor(") for name in self.names):
            self.binding = self.one.io_binding()
            for name, array in self.into.items():
                self.binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self, feed: Feed) -> dict[str, Array]:
        """Outputs by name. Raises ModelError with ONNX Runtime's reason.

        A model whose outputs turn out to have other shapes than the arrays gives new arrays from then on.
        """
        if self.binding is not None:
            try:
                return self._into(feed, self.binding)
            except RuntimeModelError:
                self.binding = None
        made = runtime.run(self.one, feed, list(self.names)) if self.names else []
        return dict(zip(self.names, made, strict=True))

    def _into(self, feed: Feed, binding: ort.IOBinding) -> dict[str, Array]:
        loose = [name for name in self.names if name not in self.into]
        for name in loose:
            binding.bind_output(name, "cpu")
        with runtime.watched() as options:
            options.add_run_config_entry(*NO_GRAPH)
            for name, value in runtime.taken(self.one, feed).items():
                if self.held.get(name) is not value:
                    self.held[name] = np.asarray(value, order="C")
                    binding.bind_cpu_input(name, self.held[name])
            self.one.run_with_iobinding(binding, options)
        made = binding.get_outputs()[len(self.into) :] if loose else []
        return {**self.into, **{name: value.numpy() for name, value in zip(loose, made, strict=True)}}
