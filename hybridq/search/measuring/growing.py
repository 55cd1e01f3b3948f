"""Many variants of a model in one graph: the batch axis carries them, and each joins where it begins to differ.

Row 0 is the base; until its first quantizer that differs a variant *is* the base. A float model with N quantizers needs
about N / 2 inferences this way for N variants, and one session. Rows travel in *streams* of a few variants: a stream
grows (Concat) at the quantizers of its own variants only, and is left in peace behind them, so that ONNX Runtime keeps
its blocked layout.

A quantizer is a *key*: ``("weight", LAYER)`` or ``("tensor", GROUP)`` or ``("edge", GROUP, LAYER)`` (a tensor as one
layer reads it). Its *form* says what is there: parameters of a tensor, arrays instead of a layer's weights, or None for
float. ``Ungrowable`` is raised where a node does not treat the rows of the batch apart; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.edit import outer_reads, reads, with_outer_reads
from hybridq.graph.model import Layer, Model
from hybridq.graph.operators import BatchRows, row_of
from hybridq.graph.opset import opset_imports, opset_of, quantizer_domain
from hybridq.quant.qparams import QParams
from hybridq.search.measuring.batch_rows import Ungrowable, grown, keeps_rows, lifted
from hybridq.storage.weights import Weights

Key = tuple[str, ...]
Form = QParams | Mapping[str, NDArray[Any]] | None
Forms = Mapping[Key, Form]
Rows = tuple[int, ...]
Pieces = list[tuple[Rows, str]]
Streams = dict[int, Pieces]

BASE = 0
SHAPES = frozenset({"Shape", "Size"})  # operators that see no value
STREAM = 4  # variants that travel together


@dataclass(frozen=True)
class Grown:
    """A model whose outputs hold one row a variant; ``rows[output]`` names them, variants count from 1.

    ``names[output]`` is what holds them; an output that no variant can reach keeps its own name and one row.
    """

    proto: onnx.ModelProto
    rows: Mapping[str, Rows]
    names: Mapping[str, str]


def stream_of(row: int) -> int:
    """The stream that a row travels in; 0 is the base's alone."""
    return -(-row // STREAM)


def grow(model: Model, weights: Weights, base: Forms, variants: Sequence[Forms], watch: Sequence[str] = ()) -> Grown:
    """The graph in which row 0 has the forms ``base`` and row i those of ``base`` changed by ``variants[i - 1]``.

    ``watch``: tensors that become outputs too, ``NAME/seen``, as their operator computed them (without variants only).
    """
    writer = _Writer(model, weights, dict(base), [dict(v) for v in variants], frozenset(watch))
    for name in model.inputs:
        writer.enter(name)
    for node in model.proto.graph.node:
        writer.emit(node)
    return writer.finish()


@dataclass
class _Writer:
    model: Model
    weights: Weights
    base: dict[Key, Form]
    variants: list[dict[Key, Form]]
    watch: frozenset[str]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    pieces: dict[str, Streams] = field(default_factory=dict)  # by tensor, by stream; 0 is the base's
    joined: dict[tuple[str, Rows], str] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.kept = {t.name for t in self.model.proto.graph.initializer}
        self.sources = {s: g.name for g in self.model.groups for s in g.sources}
        self.touched: dict[Key, list[int]] = {}
        for i, variant in enumerate(self.variants, start=1):
            for key in variant:
                self.touched.setdefault(key, []).append(i)
        self.formed = {key[1] for key in [*self.touched, *self.base] if key[0] != "weight"}

    def form(self, key: Key, row: int) -> Form:
        """What stands at a quantizer in one row."""
        if row != BASE and key in self.variants[row - 1]:
            return self.variants[row - 1][key]
        return self.base.get(key)

    def enter(self, name: str) -> None:
        """A model input: one row, quantized as the forms say."""
        tensor = self.model.tensors.get(name)
        if tensor is None or not tensor.shape:
            self._stands("input", name)  # scalars and sequences have no batch
            return
        self.pieces[name] = {BASE: [((BASE,), name)]}
        self.quantize(name)

    def emit(self, node: NodeProto) -> None:
        """Write one node for every row that differs in its inputs or weights."""
        node = self._of_the_base(node)
        mine = [n for n in node.input if n in self.pieces]
        node = self._outer(node)
        if not mine:
            self.nodes.append(node)
            self._begin(node)
            return
        layer = self.model.layer_of.get(node.name)
        first = list(dict.fromkeys(mine))
        found: dict[str, Streams] = {o: {} for o in node.output if o}
        for rows, sources, changed in self._streams(node, layer, first):
            made = self._write(node, rows, sources, changed)
            for name, new in made.items():
                found[name].setdefault(stream_of(rows[0]), []).append((rows, new))
        self.pieces.update(found)
        for name in found:
            if name in self.watch:
                self.nodes.append(helper.make_node("Identity", [self.join(name, (BASE,))], [f"{name}/seen"]))
            self.quantize(name)

    def _of_the_base(self, node: NodeProto) -> NodeProto:
        """The node that reads the base's row where it sees nothing but a shape, which all rows share."""
        if node.op_type not in SHAPES or node.input[0] not in self.pieces:
            return node
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[0] = self.join(node.input[0], (BASE,))
        return copy

    def _begin(self, node: NodeProto) -> None:
        """What a node makes of no row: the same for all, unless a quantizer stands there."""
        for name in node.output:
            if name in self.watch:
                self.nodes.append(helper.make_node("Identity", [name], [f"{name}/seen"]))
            self._stands(node.op_type, name)

    def _stands(self, what: str, name: str) -> None:
        """Let a tensor that belongs to no row be quantized, if forms stand there and there is but the base."""
        if self.sources.get(name, "") in self.formed:
            if self.variants:
                raise Ungrowable(f"'{name}' ({what}) belongs to no row")
            self.pieces[name] = {BASE: [((BASE,), name)]}
            self.quantize(name)

    def _outer(self, node: NodeProto) -> NodeProto:
        """The node whose subgraphs read what the base's row is called; more rows than one they cannot read."""
        read = [n for n in dict.fromkeys(outer_reads(node)) if n in self.pieces]
        if read and self.variants:
            raise Ungrowable(f"'{node.name}' ({node.op_type}) runs a subgraph")
        return with_outer_reads(node, {n: self.join(n, (BASE,)) for n in read}) if read else node

    def _streams(
        self, node: NodeProto, layer: Layer | None, inputs: list[str]
    ) -> list[tuple[Rows, dict[str, str], Mapping[str, NDArray[Any]]]]:
        """Rows that can be computed together: (rows, input names by tensor, arrays instead of weights)."""
        if layer is None and len(inputs) == 1:
            held = self.pieces[inputs[0]]
            return [(rows, {inputs[0]: name}, {}) for pieces in held.values() for rows, name in pieces]
        keys: list[Key] = []
        groups: dict[str, str] = {}
        if layer is not None:
            groups = {i: self.model.group_of[i].name for i in inputs if i in self.model.group_of}
            keys = [("weight", layer.name), *(("edge", g, layer.name) for g in dict.fromkeys(groups.values()))]
        rows = {r for i in inputs for pieces in self.pieces[i].values() for held, _ in pieces for r in held}
        rows |= {r for key in keys for r in self.touched.get(key, ())}
        classes: dict[tuple[int, ...], list[int]] = {}
        for row in sorted(rows):
            forms = tuple(id(self.form(key, row)) for key in keys)
            classes.setdefault((stream_of(row), *forms), []).append(row)
        return [self._sources(node, layer, inputs, keys, groups, tuple(held)) for held in classes.values()]

    def _sources(
        self,
        node: NodeProto,
        layer: Layer | None,
        inputs: list[str],
        keys: list[Key],
        groups: dict[str, str],
        rows: Rows,
    ) -> tuple[Rows, dict[str, str], Mapping[str, NDArray[Any]]]:
        """What one class of rows reads."""
        stream = stream_of(rows[0])
        some = [i for i in inputs if stream in self.pieces[i]]
        spread = bool(some) and row_of(node).rows is BatchRows.BROADCAST  # others may stay the base's single row
        sources = {i: self.join(i, rows if i in some or not spread else (BASE,)) for i in inputs}
        changed: Mapping[str, NDArray[Any]] = {}
        if layer is not None:
            weight = self.form(keys[0], rows[0])
            changed = weight if isinstance(weight, Mapping) else {}
            for i, group in groups.items():
                edge = self.form(("edge", group, layer.name), rows[0])
                if isinstance(edge, QParams):
                    sources[i] = self.rounded(sources[i], edge)
        return rows, sources, changed

    def _write(
        self, node: NodeProto, rows: Rows, sources: dict[str, str], changed: Mapping[str, NDArray[Any]]
    ) -> dict[str, str]:
        try:
            copy, constants = grown(node, len(rows), set(sources), self.model, self.weights)
        except Ungrowable:
            if keeps_rows(node, set(sources), self.model, self.weights):
                return self._reshaped(node, len(rows), sources)
            return self._lifted(node, len(rows), sources)
        for i, name in enumerate(copy.input):
            if name in sources:
                copy.input[i] = sources[name]
            elif name in changed:
                copy.input[i] = self.constant(changed[name], name)
            elif name in constants:
                copy.input[i] = self.constant(constants[name], name)
        made = {}
        for i, name in enumerate(copy.output):
            if name:
                made[name] = copy.output[i] = self.fresh(name)
        copy.name = self.fresh(node.name)
        self.nodes.append(copy)
        return made

    def _lifted(self, node: NodeProto, count: int, sources: dict[str, str]) -> dict[str, str]:
        """A node between two Reshapes that put an axis of rows before those of its input, and take it away again."""
        copy = lifted(node, self.model, self.weights)
        shapes = [self.model.tensors[n].shape or () for n in (node.input[0], node.output[0])]
        apart, together = (np.asarray(x, np.int64) for x in ([count, *shapes[0]], [-1, *shapes[1][1:]]))
        copy.input[0] = self._node("Reshape", [sources[node.input[0]], self.constant(apart, "apart")], "apart")
        copy.output[0], copy.name = self.fresh(node.output[0]), self.fresh(node.name)
        self.nodes.append(copy)
        return {
            node.output[0]: self._node("Reshape", [copy.output[0], self.constant(together, "rows")], node.output[0])
        }

    def _reshaped(self, node: NodeProto, count: int, sources: dict[str, str]) -> dict[str, str]:
        """A Reshape to a shape that the model computes, with the number of rows as its first axis."""
        ends = [self.constant(np.asarray([x], np.int64), "end") for x in (1, np.iinfo(np.int64).max)]
        rest = self._node("Slice", [node.input[1], *ends], "rest")
        shape = self._node("Concat", [self.constant(np.asarray([count], np.int64), "count"), rest], "shape", axis=0)
        return {node.output[0]: self._node("Reshape", [sources[node.input[0]], shape], node.output[0])}

    def quantize(self, name: str) -> None:
        """Round the rows of a group's source as their forms say; rows that begin here leave the base."""
        if name not in self.sources:
            return
        key = ("tensor", self.sources[name])
        old = self.pieces[name]
        here = {r for pieces in old.values() for rows, _ in pieces for r in rows}
        new: Streams = {}
        begins: dict[tuple[int, int], list[int]] = {}
        for row in self.touched.get(key, ()):
            if row not in here:
                begins.setdefault((stream_of(row), id(self.form(key, row))), []).append(row)
        for (stream, _), rows in begins.items():
            source = self.join(name, tuple(rows))
            new.setdefault(stream, []).append((tuple(rows), self._formed(source, key, rows[0])))
        for stream, pieces in old.items():
            settled = [p for piece in pieces for p in self._settled(key, name, piece)]
            new[stream] = [*settled, *new.get(stream, [])]
        self.pieces[name] = new
        self.joined = {k: v for k, v in self.joined.items() if k[0] != name}

    def _settled(self, key: Key, name: str, piece: tuple[Rows, str]) -> Pieces:
        """A piece rounded, in parts where its rows differ in how."""
        rows, held = piece
        forms: dict[int, list[int]] = {}
        for row in rows:
            forms.setdefault(id(self.form(key, row)), []).append(row)
        if len(forms) == 1:
            return [(rows, self._formed(held, key, rows[0]))]
        parts = ((m, self.take(name, held, [rows.index(r) for r in m])) for m in forms.values())
        return [(tuple(m), self._formed(part, key, m[0])) for m, part in parts]

    def _formed(self, name: str, key: Key, row: int) -> str:
        form = self.form(key, row)
        return self.rounded(name, form) if isinstance(form, QParams) else name

    def rounded(self, name: str, p: QParams) -> str:
        """Quantize and dequantize."""
        numbers = [self.constant(p.scale, "scale"), self.constant(p.zero_point.astype(p.precision.numpy), "zero_point")]
        domain = quantizer_domain(opset_of(self.model.proto))
        q = self._node("QuantizeLinear", [name, *numbers], f"{name}/q", domain=domain)
        return self._node("DequantizeLinear", [q, *numbers], f"{name}/dq", domain=domain)

    def join(self, name: str, rows: Rows) -> str:
        """A tensor with exactly these rows of one stream, in this order; rows it does not have yet are the base's."""
        if (name, rows) in self.joined:
            return self.joined[name, rows]
        base = self.pieces[name][BASE][0][1]
        stream = stream_of(rows[0])
        pieces = self.pieces[name].get(stream, [])
        if len(pieces) > 1:
            joined = self._node("Concat", [n for _, n in pieces], f"{name}/rows", axis=0)
            pieces = [(tuple(r for held, _ in pieces for r in held), joined)]
            self.pieces[name][stream] = pieces
        have = pieces[0][0] if pieces else ()
        if rows == have:
            found = pieces[0][1]
        elif not set(rows) & set(have):
            found = base if len(rows) == 1 else self.take(name, base, [0] * len(rows))
        elif set(rows) <= set(have):
            found = self.take(name, pieces[0][1], [have.index(r) for r in rows])
        else:
            whole = self._node("Concat", [base, pieces[0][1]], f"{name}/with_base", axis=0)
            place = {row: i for i, row in enumerate(have, start=1)}
            found = self.take(name, whole, [place.get(row, 0) for row in rows])
        self.joined[name, rows] = found
        return found

    def take(self, name: str, held: str, index: list[int]) -> str:
        """Rows of a tensor by their places; a row is as much of axis 0 as the model declares."""
        shape = self.model.tensors[name].shape or (1,)
        block = shape[0] if isinstance(shape[0], int) else 1
        places = (np.asarray(index, np.int64)[:, None] * block + np.arange(block)).reshape(-1)
        return self._node("Gather", [held, self.constant(places, "rows")], f"{name}/taken", axis=0)

    def constant(self, values: NDArray[Any], name: str) -> str:
        """A new initializer."""
        made = self.fresh(name)
        self.constants[made] = np.asarray(values)
        return made

    def fresh(self, name: str) -> str:
        """A name of its own."""
        self.count += 1
        return f"{name}#{self.count}"

    def _node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        made = self.fresh(name)
        self.nodes.append(helper.make_node(op, inputs, [made], name=self.fresh(op), **attributes))
        return made

    def finish(self) -> Grown:
        """The model: its outputs hold every row that reached them."""
        rows, held_as = {}, {o: o for o in self.model.outputs}
        graph = self.model.proto.graph
        outputs = []
        for output in graph.output:
            if output.name in self.pieces:
                pieces = [p for _, held in sorted(self.pieces[output.name].items()) for p in held]  # the base first
                rows[output.name] = tuple(r for held, _ in pieces for r in held)
                made = f"{output.name}/all"
                names = [n for _, n in pieces]
                whole = self._node("Concat", names, f"{output.name}/rows", axis=0) if len(names) > 1 else names[0]
                self.nodes.append(helper.make_node("Identity", [whole], [made]))
                held_as[output.name] = made
                outputs.append(_named(output, made))
            else:
                rows[output.name] = (BASE,)
                outputs.append(output)
        outputs += [helper.make_tensor_value_info(f"{n}/seen", TensorProto.FLOAT, None) for n in sorted(self.watch)]
        read = {n for node in self.nodes for n in reads(node)} | {o.name for o in outputs}
        held = [numpy_helper.from_array(np.asarray(self.weights[n]), n) for n in self.kept if n in read]
        held += [numpy_helper.from_array(v, n) for n, v in self.constants.items()]
        proto = helper.make_model(
            helper.make_graph(self.nodes, "growing", graph.input, outputs, held),
            ir_version=self.model.proto.ir_version,
            opset_imports=opset_imports(self.model.proto),
        )
        return Grown(proto, rows, held_as)


def _named(output: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    """An output of the same type, be it a sequence, under another name and of any shape."""
    made = onnx.ValueInfoProto()
    made.CopyFrom(output)
    made.name = name
    if made.type.HasField("tensor_type"):
        made.type.tensor_type.ClearField("shape")
    return made
