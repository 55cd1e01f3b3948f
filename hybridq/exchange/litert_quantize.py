"""Quantize a float .tflite with ai-edge-quantizer as hybridq chose: ``python quantize.py FLOAT.tflite``.

Run it where ai-edge-quantizer, ai-edge-litert, onnx and onnxruntime are installed; its files lie beside it. Make the
float model of ``model.onnx`` by any converter (``onnx2tf -i model.onnx``). Converters rename tensors, so those are
known by their values: both models run on one sample, and two tensors are the same where number, mean, spread and ends
of their values agree, whatever the layout. Of that come a recipe (what stays float, what takes 16 bits), written as
``recipe.json``, and the ranges of the tensors.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
NEAR = 2e-3  # of the spread of a tensor's values: converters round otherwise
ALGORITHM, NONE = "min_max_uniform_quantize", "no_quantize"
FOUND, LOST = "layers found by their values", "was chosen, but no tensor has its values"
PADDING = 1e30  # what is larger stands for minus infinity
Signature = tuple[float, ...]


def signature(values: Any) -> Signature:
    """What does not change with the layout: number, mean, spread, ends."""
    flat = np.asarray(values, np.float64).reshape(-1)
    return (float(flat.size), float(flat.mean()), float(flat.std()), float(flat.min()), float(flat.max()))


def alike(a: Signature, b: Signature) -> bool:
    """Whether two tensors have the same values."""
    reach = NEAR * max(a[2], 1e-6)
    return a[0] == b[0] and all(abs(x - y) <= reach for x, y in zip(a[1:], b[1:], strict=True))


def ours(plan: dict[str, Any], feed: dict[str, Any]) -> dict[str, Signature]:
    """The layers of model.onnx, and what else has a range, on one sample."""
    import onnx
    import onnxruntime

    model = onnx.load(str(HERE / "model.onnx"))
    wanted = [n for n in dict.fromkeys([*plan["layers"], *plan["float"], *plan["ranges"]]) if n not in feed]
    known = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in known)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(wanted, session.run(wanted, feed), strict=True)) | {
        n: feed[n] for n in plan["ranges"] if n in feed
    }
    return {n: signature(v) for n, v in found.items()}


def fed(details: list[dict[str, Any]], feed: dict[str, Any]) -> list[Any]:
    """A sample as the converted model takes it: by place, channels last where its shape says so."""
    found = []
    for detail, values in zip(details, feed.values(), strict=True):
        shape = tuple(int(n) for n in detail["shape"])
        found.append(np.asarray(values if values.shape == shape else np.moveaxis(values, 1, -1), np.float32))
    return found


def values_of(path: str, feeds: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every float tensor of a .tflite that is computed or fed, by name, sample by sample.

    Constants are none: with one minimum and maximum for a weight the tool would give it one scale for all channels.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    one = Interpreter(path, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True)
    one.allocate_tensors()
    ends = one.get_input_details()
    made = {int(i) for op in one._get_ops_details() for i in op["outputs"]} | {int(d["index"]) for d in ends}
    tensors = [
        d for d in one.get_tensor_details() if d["dtype"] is np.float32 and d["name"] and int(d["index"]) in made
    ]
    for feed in feeds:
        for detail, values in zip(ends, fed(ends, feed), strict=True):
            one.set_tensor(detail["index"], values)
        one.invoke()
        found = {}
        for detail in tensors:
            with suppress(ValueError):  # a tensor without values, such as scratch room
                found[detail["name"]] = one.get_tensor(detail["index"])
        yield found


def measured(samples: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The smallest and largest value of each tensor over all samples, as the tool's calibration has them.

    Its own is a moving average, which clips, and wants a model with a signature, which not every converter gives. The
    lowest float there is, which converters pad a MaxPool with, is no value.
    """
    found: dict[str, dict[str, Any]] = {}
    for tensors in samples:
        for name, values in tensors.items():
            held = values[np.abs(values) < PADDING] if np.isfinite(values).all() else values[:0]
            if held.size:
                ends = {k: np.reshape(f(held), [1] * values.ndim) for k, f in (("min", np.min), ("max", np.max))}
                old = found.get(name, ends)
                found[name] = {k: f(old[k], ends[k]) for k, f in (("min", np.minimum), ("max", np.maximum))}
    return found


def matched(layers: dict[str, Signature], tensors: dict[str, Signature]) -> dict[str, list[str]]:
    """Layers to the tensors that have their values."""
    return {n: [t for t, b in tensors.items() if alike(a, b)] for n, a in layers.items()}


def config(bits: int) -> dict[str, Any]:
    """How an operator is quantized: activations in ``bits``, weights in 8."""
    activation = {"num_bits": bits, "symmetric": bits == 16, "granularity": "TENSORWISE", "dtype": "INT"}
    weight = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
    return {
        "activation_tensor_config": activation,
        "weight_tensor_config": weight,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
        "skip_checks": False,
        "min_weight_elements": 0,
    }


def recipe(plan: dict[str, Any], names: dict[str, list[str]]) -> list[dict[str, Any]]:
    """8 bits for all but the model's ends, then what differs, by the tensors that operators write.

    What only moves values, such as a Concat, is an operator here: it stays float where its result is stored so.
    """
    rules: list[dict[str, Any]] = [
        {"regex": ".*", "operation": "*", "algorithm_key": ALGORITHM, "op_config": config(8)},
        *({"regex": ".*", "operation": end, "algorithm_key": NONE} for end in ("INPUT", "OUTPUT")),
    ]
    for layer, precision in [*plan["layers"].items(), *((name, "float32") for name in plan["float"])]:
        for tensor in names[layer]:
            exact = {"regex": f"^{re.escape(tensor)};?$", "operation": "*"}
            if precision == "int16":
                rules.append({**exact, "algorithm_key": ALGORITHM, "op_config": config(16)})
            elif precision.startswith("float"):
                rules.append({**exact, "algorithm_key": NONE})
    return rules


def ranged(found: dict[str, Any], plan: dict[str, Any], names: dict[str, list[str]]) -> int:
    """Put our ranges where its calibration has its own; how many."""
    count = 0
    for layer, (low, high) in plan["ranges"].items():
        for tensor in names.get(layer, ()):
            if tensor in found:
                for key, value in (("min", low), ("max", high)):
                    found[tensor][key] = np.full_like(np.asarray(found[tensor][key], np.float32), value)
                count += 1
    return count


def main() -> None:
    """Match, write the recipe, quantize."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="the float .tflite")
    parser.add_argument("--out", type=Path, default=HERE / "quantized.tflite")
    given = parser.parse_args()
    from ai_edge_quantizer import quantizer

    plan = json.loads((HERE / "plan.json").read_text(encoding="utf-8"))
    feeds = samples(plan["inputs"])
    first = next(values_of(given.model, feeds[:1]))
    names = matched(ours(plan, feeds[0]), {n: signature(v) for n, v in first.items()})
    rules = recipe(plan, names)
    (HERE / "recipe.json").write_text(json.dumps(rules, indent=1) + "\n", encoding="utf-8")
    tool = quantizer.Quantizer(given.model)
    tool.load_quantization_recipe(rules)
    calibrated = measured(values_of(given.model, feeds))
    count = ranged(calibrated, plan, names)
    tool.quantize(calibrated).export_model(str(given.out), overwrite=True)
    lost = [n for n in plan["layers"] if not names[n]]
    sys.stdout.write(f"{len(plan['layers']) - len(lost)} of {len(plan['layers'])} {FOUND}, {count} ranges taken\n")
    raised = [n for n in lost if plan["layers"][n] not in ("int8", "uint8")]
    sys.stdout.write("".join(f"{n}: {plan['layers'][n]} {LOST}\n" for n in raised))
    sys.stdout.write(f"wrote {HERE / 'recipe.json'} and {given.out}\n")


def samples(inputs: list[str]) -> list[dict[str, Any]]:
    """Every sample by input."""
    with np.load(HERE / "samples.npz") as held:
        return [dict(zip(inputs, row, strict=True)) for row in zip(*(held[n] for n in held.files), strict=True)]


if __name__ == "__main__":
    main()
