"""Does ONNX Runtime compute what the file says? The built model run fully optimized and not optimized at all.

Quantized values are compared as integers where they are made: exposing them leaves ONNX Runtime's fusions as they are,
exposing float tensors would not (``docs/onnxruntime.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from hybridq.graph import edit, runtime
from hybridq.graph.chance import seeded
from hybridq.graph.load import load
from hybridq.graph.runtime import Feed
from hybridq.quant.metrics import sqnr_db

Reference = Callable[[], Mapping[str, NDArray[Any]]]

ENOUGH_DB = 30.0
NEAR_DB = 3.0  # as near to float: two roundings of one model differ by as much as either does from float
REWRITTEN_SHARE = 0.02  # of a tensor's integers: more than ties in rounding explain
GROWTH = 10.0  # a layer mixes many inputs, so a few that differ make more outputs that do


@dataclass(frozen=True, slots=True)
class Fidelity:
    """SQNR in dB between both runs for every output, and the quantized tensors where they part for no good reason.

    ``optimized_db`` and ``plain_db`` are those of either run against float, of the outputs that do not agree.
    """

    sqnr_db: dict[str, float]
    differing: tuple[str, ...]
    optimized_db: dict[str, float] = field(default_factory=dict)
    plain_db: dict[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """The lowest SQNR over the outputs."""
        return min(self.sqnr_db.values(), default=float("inf"))

    @property
    def faithful(self) -> bool:
        """Whether both runs agree well enough, or are as near to float: what is between them is then no loss."""
        return all(db >= ENOUGH_DB or self._as_near(name) for name, db in self.sqnr_db.items())

    def _as_near(self, output: str) -> bool:
        both = self.optimized_db.get(output), self.plain_db.get(output)
        return both[0] is not None and both[1] is not None and abs(both[0] - both[1]) <= NEAR_DB


def check_fidelity(path: Path, feed: Feed, *, threads: int = 0, given: Reference | None = None) -> Fidelity:
    """Run the model of ``path`` at ORT_ENABLE_ALL and at ORT_DISABLE_ALL on one sample.

    ``given`` computes the float model's outputs on that sample; it is asked where the runs do not agree.
    """
    both, names = [], []
    source = seeded(load(path))
    for level in ("all", "none"):
        session = runtime.session(source, session_options=_sparing(threads, level))
        both.append(runtime.run(session, feed))
        names = [o.name for o in session.get_outputs()]
        del session
    found = {
        name: sqnr_db(plain, fast)
        for name, fast, plain in zip(names, *both, strict=True)
        if isinstance(plain, np.ndarray) and np.issubdtype(plain.dtype, np.floating)
    }
    apart = [name for name, db in found.items() if db < ENOUGH_DB]
    if not apart:
        return Fidelity(found, ())
    optimized, plain = (dict(zip(names, one, strict=True)) for one in both)
    floats = given() if given is not None else {}
    near = ({n: sqnr_db(floats[n], run[n]) for n in apart if n in floats} for run in (optimized, plain))
    return Fidelity(found, _first_differences(path, feed, threads), *near)


def _sparing(threads: int, level: str) -> ort.SessionOptions:
    """A session that gives memory back at once: unoptimized, each weight becomes float32 while it is needed."""
    found = runtime.options(threads=threads, level=level)
    found.enable_cpu_mem_arena = found.enable_mem_pattern = False
    return found


def _first_differences(path: Path, feed: Feed, threads: int) -> tuple[str, ...]:
    """Quantized tensors that differ by more than rounding although what they are computed from agrees."""
    proto = onnx.load(path)
    made = {n.output[0]: n.output[0] for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    kinds = {t.name: t.data_type for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            proto.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], kinds[node.input[2]], None))
    names = list(made)
    runs = [runtime.run(runtime.session(proto, threads=threads, level=level), feed, names) for level in ("all", "none")]
    share = {n: _share(a, b) for n, a, b in zip(names, *runs, strict=True)}
    producers = edit.producers(proto.graph.node)
    return tuple(n for n in names if share[n] > _explained(share, _sources(producers, n, set(names))))


def _explained(share: dict[str, float], sources: set[str]) -> float:
    """The share of integers that may differ: rounding ties, and what grows from differences in the inputs."""
    return max(REWRITTEN_SHARE, GROWTH * max((share[s] for s in sources), default=0.0))


def _share(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    return float(np.mean(a != b)) if a.size else 0.0


def _sources(producers: Mapping[str, onnx.NodeProto], tensor: str, quantized: set[str]) -> set[str]:
    """The quantized tensors from which ``tensor`` is computed directly."""
    todo, seen, found = list(producers[tensor].input), set(), set()
    while todo:
        name = todo.pop()
        if name in quantized:
            found.add(name)
        elif name in producers and name not in seen:
            seen.add(name)
            todo += producers[name].input
    return found
