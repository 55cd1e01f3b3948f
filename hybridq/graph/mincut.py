"""Minimum cut of a small graph: Dinic's algorithm on floats."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

EMPTY = 1e-15  # of the largest capacity: less is nothing


def source_side(
    count: int,
    value: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    weight: NDArray[np.float64],
    back: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """The set S of nodes with the largest ``sum value[S] - sum weight of pairs that S cuts``; the smallest such set.

    A pair with ``first`` in S and ``second`` outside costs ``weight``, the other way round ``back`` (None: the same).
    Both ``>= 0``. Shapes: value (count,), the others (pairs,).
    """
    net = _Network(count + 2)
    source, sink = count, count + 1
    for node, worth in enumerate(value.tolist()):
        if worth > 0:
            net.edge(source, node, worth, 0.0)
        elif worth < 0:
            net.edge(node, sink, -worth, 0.0)
    other = weight if back is None else back
    for a, b, forth, reverse in zip(*(x.tolist() for x in (first, second, weight, other)), strict=True):
        if forth > 0 or reverse > 0:
            net.edge(a, b, forth, reverse)
    net.saturate(source, sink)
    return net.reached(source)[:count]


@dataclass
class _Network:
    size: int
    to: list[int] = field(default_factory=list)
    room: list[float] = field(default_factory=list)
    out: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.out = [[] for _ in range(self.size)]
        self.level: list[int] = []

    def edge(self, a: int, b: int, forth: float, back: float) -> None:
        """An edge and its reverse, at neighbouring places."""
        for node, end, room in ((a, b, forth), (b, a, back)):
            self.out[node].append(len(self.to))
            self.to.append(end)
            self.room.append(room)

    def saturate(self, source: int, sink: int) -> None:
        """Push flow until the sink is out of reach."""
        self.empty = EMPTY * max(self.room, default=0.0)
        while self._levels(source)[sink] >= 0:
            at = [0] * self.size
            while self._path(source, sink, at):
                pass

    def reached(self, source: int) -> NDArray[np.bool_]:
        """Nodes on the source's side of the cut."""
        return np.array(self._levels(source)) >= 0

    def _levels(self, source: int) -> list[int]:
        self.level = [-1] * self.size
        self.level[source] = 0
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for e in self.out[node]:
                if self.room[e] > self.empty and self.level[self.to[e]] < 0:
                    self.level[self.to[e]] = self.level[node] + 1
                    queue.append(self.to[e])
        return self.level

    def _path(self, source: int, sink: int, at: list[int]) -> bool:
        """One augmenting path along the levels, without recursion."""
        path: list[int] = []
        node = source
        while node != sink:
            edges = self.out[node]
            while at[node] < len(edges):
                e = edges[at[node]]
                if self.room[e] > self.empty and self.level[self.to[e]] == self.level[node] + 1:
                    break
                at[node] += 1
            if at[node] < len(edges):
                path.append(edges[at[node]])
                node = self.to[edges[at[node]]]
            elif path:
                node = self.to[path.pop() ^ 1]
                at[node] += 1
            else:
                return False
        push = min(self.room[e] for e in path)
        for e in path:
            self.room[e] -= push
            self.room[e ^ 1] += push
        return True
