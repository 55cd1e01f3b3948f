"""The noise that a plan's quantizers should add, computed node by node beside ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from random_graphs import Case, expose, run
from random_models import FLOAT, Array

from hybridq.graph import runtime
from hybridq.plan.quant_plan import QuantPlan, Stored
from hybridq.quant.dtypes import Precision
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import QParams


class Noise:
    """The float graph with uniform noise of power ``scale**2 / 12`` where the plan has a quantizer.

    Weights and biases are rounded as planned, float16 is rounded by Casts, and a value that an integer says exactly
    (zero, the end of a Clip) stays as it is.
    """

    def __init__(self, case: Case, plan: QuantPlan) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(case.proto)
        self.case, self.plan = case, plan
        self.scales: dict[str, float] = {}
        graph = self.proto.graph
        graph.initializer.append(numpy_helper.from_array(np.float32(1e-4), "hair"))
        old = list(graph.node)
        del graph.node[:]
        sources = {s: plan.groups[g.name].stored for g in case.model.groups for s in g.sources}
        layer_of = {x.node: x for x in case.model.layers}
        self.renamed = {x: self._noisy(x, x, f"{x}/noisy", sources[x]) for x in case.model.inputs if x in sources}
        self.converted: dict[tuple[str, Precision], str] = {}
        for node in old:
            layer = layer_of.get(node.name)
            for i, name in enumerate(node.input):
                node.input[i] = self.renamed.get(name, name)
                if layer and name in layer.inputs:
                    node.input[i] = self._converted(name, node.input[i], layer.name)
            for planned in plan.layers[layer.name].weights if layer else ():
                node.input[planned.index] = self._weight(planned.tensor, layer.name, planned.precision, planned.qparams)
            if layer and plan.layers[layer.name].bias:
                node.input[2] = self._bias(layer.name)
            graph.node.append(node)
            for i, name in enumerate(node.output):
                if name in sources and not sources[name].is_float:
                    node.output[i] = f"{name}/clean"
                    graph.node[-1].output[i] = node.output[i]
                    self._noisy(name, node.output[i], name, sources[name])

    def _noisy(self, key: str, source: str, result: str, stored: Stored) -> str:
        add = self.proto.graph.node.append
        if stored.is_float:
            return source
        if stored.qparams is None:
            add(helper.make_node("Cast", [source], [f"{result}/half"], to=TensorProto.FLOAT16))
            add(helper.make_node("Cast", [f"{result}/half"], [result], to=FLOAT))
            return result
        noise = f"{result}/noise"
        self.scales[noise] = float(stored.qparams.scale)
        self.proto.graph.input.append(helper.make_tensor_value_info(noise, FLOAT, None))
        step = f"{noise}/step"
        self.proto.graph.initializer.append(numpy_helper.from_array(stored.qparams.scale, step))
        add(helper.make_node("Div", [source, step], [f"{noise}/steps"]))
        add(helper.make_node("Round", [f"{noise}/steps"], [f"{noise}/whole"]))
        add(helper.make_node("Sub", [f"{noise}/steps", f"{noise}/whole"], [f"{noise}/rest"]))
        add(helper.make_node("Abs", [f"{noise}/rest"], [f"{noise}/size"]))
        add(helper.make_node("Greater", [f"{noise}/size", "hair"], [f"{noise}/off"]))
        add(helper.make_node("Cast", [f"{noise}/off"], [f"{noise}/sign"], to=FLOAT))
        add(helper.make_node("Shape", [source], [f"{noise}/shape"]))
        add(helper.make_node("Reshape", [noise, f"{noise}/shape"], [f"{noise}/shaped"], allowzero=1))
        add(helper.make_node("Mul", [f"{noise}/shaped", f"{noise}/sign"], [f"{noise}/added"]))
        add(helper.make_node("Add", [source, f"{noise}/added"], [result]))
        return result

    def _converted(self, tensor: str, visible: str, layer: str) -> str:
        group = self.case.model.group_of.get(tensor)
        done = self.plan.layers[layer].done
        form = self.plan.groups[group.name].conversions.get(done) if group else None
        if form is None:
            return visible
        if (tensor, done) not in self.converted:
            self.converted[tensor, done] = self._noisy(tensor, visible, f"{tensor}/as_{done}", form)
        return self.converted[tensor, done]

    def _weight(self, tensor: str, layer: str, precision: Precision, p: QParams | None) -> str:
        if precision is Precision.FLOAT32:
            return tensor
        values = self.case.weights[tensor]
        with np.errstate(over="ignore"):
            rounded = fake_quantize(values, p) if p else values.astype(np.float16).astype(np.float32)
        name = f"{tensor}/rounded/{layer}"
        if name not in {t.name for t in self.proto.graph.initializer}:
            self.proto.graph.initializer.append(numpy_helper.from_array(rounded, name))
        return name

    def _bias(self, layer: str) -> str:
        planned = self.plan.layers[layer].bias
        assert planned is not None
        values = self.case.weights[planned.tensor].reshape(-1)
        rounded = np.rint(values / planned.scale.astype(np.float64)) * planned.scale
        name = f"{planned.tensor}/rounded/{layer}"
        self.proto.graph.initializer.append(numpy_helper.from_array(rounded.astype(np.float32), name))
        return name

    def draws(self, count: int, seed: int = 0) -> Iterator[list[Array]]:
        """Outputs under ``count`` draws of the noise."""
        random = np.random.default_rng(seed)
        sizes = self._sizes()
        session = runtime.session(self.proto, threads=1, level="basic")
        for _ in range(count):
            noise = {n: (random.uniform(-0.5, 0.5, sizes[n]) * s).astype(np.float32) for n, s in self.scales.items()}
            yield runtime.run(session, {**self.case.feed, **noise})

    def _sizes(self) -> dict[str, int]:
        names = [n.removesuffix("/noise") for n in self.scales]
        origin = {n: n.removesuffix("/noisy").split("/as_")[0] for n in names}
        wanted = [t for t in dict.fromkeys(origin.values()) if t not in self.case.feed]
        exposed = expose(self.case.proto, wanted)
        values = dict(zip([o.name for o in exposed.graph.output], run(exposed, self.case.feed), strict=True))
        values |= self.case.feed
        return {f"{n}/noise": values[t].size for n, t in origin.items()}


def powers(values: list[Array], reference: list[Array]) -> list[float]:
    """Mean squared difference of every output."""
    return [float(np.mean((a.astype(np.float64) - b) ** 2)) for a, b in zip(values, reference, strict=True)]
