"""Minimum cut of a small graph: what is plain is settled first, the rest by PyMaxflow or Dinic's algorithm."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    import maxflow  # an extra: hybridq[search]
except ImportError:
    maxflow = None

Doubles = NDArray[np.float64]
Places = NDArray[np.int64]
OUT, OPEN, IN = -1, 0, 1
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
    edges = _Edges(first, second, weight, weight if back is None else back)
    side, worth = _settled(value, edges)
    rest = np.flatnonzero(side == OPEN)
    if len(rest):
        cut = _by_dinic if maxflow is None else _by_library
        side[rest[cut(worth[rest], edges.among(rest, count))]] = IN
    return np.asarray(side == IN)


class _Edges(NamedTuple):
    """Pairs of nodes and what they cost when only ``first`` (``forth``) or only ``second`` (``back``) is in the set."""

    first: Places
    second: Places
    forth: Doubles
    back: Doubles

    def directed(self) -> tuple[tuple[Places, Places, Doubles, Doubles], ...]:
        """Both ways: node, neighbour, cost of the node alone in the set, cost of the neighbour alone."""
        return (
            (self.first, self.second, self.forth, self.back),
            (self.second, self.first, self.back, self.forth),
        )

    def among(self, nodes: Places, count: int) -> _Edges:
        """The edges between some nodes, numbered in their order."""
        place = np.full(count, -1)
        place[nodes] = np.arange(len(nodes))
        kept = (place[self.first] >= 0) & (place[self.second] >= 0) & (self.forth + self.back > 0)
        return _Edges(place[self.first][kept], place[self.second][kept], self.forth[kept], self.back[kept])


def _settled(value: Doubles, edges: _Edges) -> tuple[NDArray[np.int8], Doubles]:
    """Sides of the nodes whose own value outweighs all its edges, and the values of the others.

    A settled node's edges become part of its neighbours' values, which may settle them in turn.
    """
    worth, side = value.astype(np.float64), np.full(len(value), OPEN, np.int8)
    while True:
        live = (side[edges.first] == OPEN) & (side[edges.second] == OPEN)
        least, most = worth.copy(), worth.copy()
        for node, _, alone, left in edges.directed():
            least -= np.bincount(node[live], alone[live], len(value))
            most += np.bincount(node[live], left[live], len(value))
        new = np.where(side == OPEN, np.where(least > 0, IN, np.where(most <= 0, OUT, OPEN)), OPEN)
        if not new.any():
            return side, worth
        side = np.where(new == OPEN, side, new).astype(np.int8)
        for node, other, alone, left in edges.directed():
            moved = live & (new[other] != OPEN) & (side[node] == OPEN)
            gain = np.where(new[other[moved]] == IN, left[moved], -alone[moved])
            worth += np.bincount(node[moved], gain, len(value))


def _by_library(value: Doubles, edges: _Edges) -> NDArray[np.bool_]:
    """By PyMaxflow (Boykov and Kolmogorov 2004); source and sink change places, since what is free is the source's."""
    graph = maxflow.GraphFloat(len(value), len(edges.first))
    graph.add_nodes(len(value))
    for node, worth in enumerate(value.tolist()):
        graph.add_tedge(node, max(-worth, 0.0), max(worth, 0.0))
    for a, b, forth, back in zip(*(x.tolist() for x in edges), strict=True):
        graph.add_edge(a, b, back, forth)
    graph.maxflow()
    return np.array([graph.get_segment(i) == 1 for i in range(len(value))], bool)


def _by_dinic(value: Doubles, edges: _Edges) -> NDArray[np.bool_]:
    count = len(value)
    net = _Network(count + 2)
    source, sink = count, count + 1
    for node, worth in enumerate(value.tolist()):
        if worth > 0:
            net.edge(source, node, worth, 0.0)
        elif worth < 0:
            net.edge(node, sink, -worth, 0.0)
    for a, b, forth, back in zip(*(x.tolist() for x in edges), strict=True):
        net.edge(a, b, forth, back)
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
