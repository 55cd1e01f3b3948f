"""``model.json`` and ``weights.data``: the state that step1 leaves and every later command reads.

``weights.data`` is a row of raw little-endian tensors, each aligned to 64 bytes; ``model.json`` says where each lies.
Neither holds times, hosts, paths or worker counts: the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hybridq import __version__
from hybridq.errors import StorageError
from hybridq.files.commit import View, reading
from hybridq.files.reading import look_at, read_json, write_text
from hybridq.files.seal import file_digest, read_sealed, sealed, text_digest
from hybridq.graph import outside
from hybridq.graph.canonical import SMALL
from hybridq.graph.edit import Names
from hybridq.graph.graph_json import dtype_name, elem_type, graph_from_json, graph_to_json
from hybridq.graph.halves import half_ends, mark_halves, narrow_ends
from hybridq.graph.model import Group, Layer, Model, Tensor, Weight
from hybridq.graph.opset import opset_of
from hybridq.graph.outside import Mapped, Place, without_initializers
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated, Entry, LayerDefault, Measured
from hybridq.storage.weights import OURS, Tensors, Weights

FORMAT = "hybridq.model/1"
MODEL, WEIGHTS, CFG = "model.json", "weights.data", "model.quantization.cfg"
SAMPLE = OURS + "sample/"  # prefix of the first sample's inputs among the tensors
ALIGNMENT = 64
EARLIER = "written by an earlier hybridq, or edited"
Json = dict[str, Any]


@dataclass(frozen=True)
class State:
    """What a folder holds after step1. ``weights`` are read-only, memory-mapped arrays.

    ``samples`` is the number of calibration samples, ``sequence`` the number of steps after which a sequence of a
    recurrent model ends (None: where its dataset says), ``sample`` the first feed, ``cfg_digest`` the fingerprint of
    the cfg as step1 wrote it (empty: nothing is known of it).
    """

    model: Model
    weights: Weights
    calibrated: Calibrated
    preprocessing: Json
    samples: int = 0
    sequence: int | None = None
    sample: Tensors = field(default_factory=dict)
    cfg_digest: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)  # of the files it was read from, by their names


def with_cfg(state: State, text: str) -> State:
    """The state that remembers ``text`` as the cfg step1 wrote."""
    return replace(state, cfg_digest=text_digest(text))


def weights_of(proto: onnx.ModelProto) -> Weights:
    """The initializers of a model as arrays."""
    return Weights(Mapped.of(proto.graph.initializer))


def assemble(proto: onnx.ModelProto, weights: Tensors) -> onnx.ModelProto:
    """A runnable model: the skeleton ``proto`` with ``weights`` filled in; float16 where the given one had it.

    Those that lie in a file stay there.
    """
    whole = without_initializers(proto)
    for tensor in proto.graph.initializer:
        lying = weights.lying(tensor.name) if isinstance(weights, Weights) else None
        whole.graph.initializer.append(lying or numpy_helper.from_array(np.asarray(weights[tensor.name]), tensor.name))
    narrow_ends(whole, half_ends(whole) or (), Names.of(whole.graph).fresh)
    return whole


def write_state(folder: Path, state: State) -> None:
    """Write ``model.json`` and ``weights.data`` into ``folder``."""
    samples = ((SAMPLE + k, v) for k, v in state.sample.items())
    placed, digest = _write_weights(folder / WEIGHTS, chain(state.weights.row(), samples))
    data = {
        "format": FORMAT,
        "versions": {"hybridq": __version__, "opset": opset_of(state.model.proto)},
        "model": {"name": state.model.name, "sha256": state.model.sha256},
        "preprocessing": state.preprocessing,
        "samples": {"count": state.samples, "cfg": state.cfg_digest},
        **_states_to_json(state),
        "calibration": to_json(state.calibrated),
        "layers": [to_json(x) for x in state.model.layers],
        "groups": [to_json(g) for g in state.model.groups],
        "graph": _proto_to_json(state.model.proto),
        "weights": {"file": WEIGHTS, "sha256": digest, "tensors": placed},
    }
    write_text(folder / MODEL, sealed(_dumps(data)))


def read_state(directory: Path, *, verify: bool = False) -> State:
    """Read what step1 wrote. Raises StorageError when it is missing, damaged or of another version.

    ``verify`` compares the checksum of the weights too, which reads all of them.
    """
    if not directory.is_dir():
        raise StorageError(
            "no such folder", path=str(directory), hint="Run `hybridq step1 MODEL --dataset FILE -o DIR` first."
        )
    with reading(directory) as view:
        return _read(view, verify)


def read_earlier(directory: Path) -> State | None:
    """What a step1 left that did not seal its files yet; None where the folder is sealed, or holds nothing of ours.

    Its weights are compared with their checksum. Raises StorageError where anything of it is damaged.
    """
    with reading(directory) as view:
        path = view.path(MODEL)
        data = read_json(path) if path.is_file() else None
        if not isinstance(data, dict) or data.get("format") != FORMAT or "digest" in data:
            return None
        return _state(view, {**data, "digest": ""}, verify=True)


def _read(view: View, verify: bool) -> State:
    path = view.path(MODEL)
    if not path.exists():
        raise StorageError(
            f"there is no {MODEL} here", path=str(view.directory), hint="Run `hybridq step1` with `-o` this folder."
        )
    return _state(view, read_sealed(path, FORMAT, "Run step1 again.", unsealed=EARLIER), verify)


def _state(view: View, data: Json, verify: bool) -> State:
    """The state that ``data``, the object in model.json, tells of."""
    try:
        everything = _read_weights(view.path(WEIGHTS), data["weights"], verify)
        weights = Weights.of_row(everything)
        return State(
            model=_model_from_json(data, weights),
            weights=weights,
            calibrated=_calibrated_from_json(data["calibration"]),
            preprocessing=data["preprocessing"],
            samples=data["samples"]["count"],
            sequence=data.get("states", {}).get("sequence"),
            sample={k.removeprefix(SAMPLE): everything[k] for k in everything if k.startswith(SAMPLE)},
            cfg_digest=data["samples"]["cfg"],
            digests={MODEL: data["digest"], WEIGHTS: data["weights"]["sha256"]},
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        where = str(view.path(MODEL))
        raise StorageError(f"damaged: {error!r}", path=where, hint="Run step1 again.") from error


def to_json(value: Any) -> Any:
    """Dataclasses, enums and tuples as JSON; None and empty values are left out of dataclasses."""
    if is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in fields(value))
        return {k: to_json(v) for k, v in pairs if v is not None and v != ""}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _dumps(data: Json) -> str:
    """JSON with one line a list entry of the outer level: readable, and diffs stay small."""
    parts = []
    for key, value in data.items():
        if isinstance(value, list):
            inner = ",\n".join("    " + json.dumps(v, ensure_ascii=False) for v in value)
            parts.append(f"  {json.dumps(key)}: [\n{inner}\n  ]")
        elif isinstance(value, dict) and key in ("graph", "calibration", "weights"):
            parts.append(f"  {json.dumps(key)}: {_dumps_rows(value)}")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _dumps_rows(data: Json) -> str:
    rows = []
    for key, value in data.items():
        if isinstance(value, dict) and value:
            inner = [f"      {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()]
            rows.append(f"    {json.dumps(key)}: {{\n" + ",\n".join(inner) + "\n    }")
        elif isinstance(value, list) and value:
            inner = ["      " + json.dumps(v, ensure_ascii=False) for v in value]
            rows.append(f"    {json.dumps(key)}: [\n" + ",\n".join(inner) + "\n    ]")
        else:
            rows.append(f"    {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(rows) + "\n  }"


def _states_to_json(state: State) -> Json:
    """What goes round in a recurrent model; nothing for any other."""
    if not state.model.states:
        return {}
    ended = {} if state.sequence is None else {"sequence": state.sequence}
    return {"states": {"pairs": dict(state.model.states), **ended}}


def _proto_to_json(proto: onnx.ModelProto) -> Json:
    head: Json = {"opsets": {o.domain: o.version for o in proto.opset_import}, "ir_version": proto.ir_version}
    halves = half_ends(proto)
    return head | ({} if halves is None else {"halves": halves}) | graph_to_json(proto.graph)


def _model_from_json(data: Json, weights: Tensors) -> Model:
    held = data["graph"]
    proto = onnx.ModelProto(ir_version=held["ir_version"], graph=graph_from_json(held))
    proto.opset_import.extend(helper.make_opsetid(d, v) for d, v in held["opsets"].items())
    if "halves" in held:
        mark_halves(proto, held["halves"])
    placed = {n: data["weights"]["tensors"][n] for n in weights}
    sizes = {n: math.prod(t["shape"]) for n, t in placed.items()}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(weights[n]), n) for n, size in sizes.items() if size <= SMALL
    )
    proto.graph.initializer.extend(
        onnx.TensorProto(name=n, data_type=elem_type(placed[n]["dtype"]), dims=placed[n]["shape"])
        for n, size in sizes.items()
        if size > SMALL
    )
    layers = tuple(_layer_from_json(x) for x in data["layers"])
    return Model(
        name=data["model"]["name"],
        sha256=data["model"]["sha256"],
        proto=proto,
        layers=layers,
        groups=tuple(_group_from_json(g) for g in data["groups"]),
        tensors=_tensors(held),
        inputs=tuple(i["name"] for i in held["inputs"]),
        outputs=tuple(o["name"] for o in held["outputs"]),
        states=dict(data.get("states", {}).get("pairs", {})),
    )


def _tensors(graph: Json) -> dict[str, Tensor]:
    found = {}
    for v in [*graph["inputs"], *graph["outputs"], *graph["values"]]:
        if "dtype" in v:
            shape = tuple(d if d is not None else "?" for d in v["shape"]) if "shape" in v else None
            kind = elem_type(v["dtype"])
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name if kind else "unknown"
            found[v["name"]] = Tensor(v["name"], shape, dtype)
    return found


def _layer_from_json(data: Json) -> Layer:
    weights = tuple(Weight(w["tensor"], w["index"], tuple(w["shape"]), w.get("axis")) for w in data["weights"])
    words: Json = {k: data.get(k, "") for k in ("activation", "activation_op", "bias", "float_only")}
    lists: Json = {k: tuple(data[k]) for k in ("inputs", "aliases")}
    plain: Json = {k: data[k] for k in ("name", "op", "node", "macs", "group")}
    return Layer(**plain, **words, **lists, weights=weights)


def _group_from_json(data: Json) -> Group:
    fixed = data.get("fixed")
    lists = {k: tuple(data[k]) for k in ("tensors", "sources", "layers")}
    return Group(
        name=data["name"], **lists, fixed=(fixed[0], fixed[1]) if fixed else None, float_only=data.get("float_only", "")
    )


def _calibrated_from_json(data: Json) -> Calibrated:
    return Calibrated(
        target=data["target"],
        default=Precision(data["default"]),
        algorithm=data["algorithm"],
        weights_per=data["weights_per"],
        entries={k: _entry_from_json(v) for k, v in data["entries"].items()},
        measured={k: _measured_from_json(v) for k, v in data["measured"].items()},
        layers={k: _default_from_json(v) for k, v in data["layers"].items()},
        rounded=tuple(data.get("rounded", ())),
        equalized=tuple(data.get("equalized", ())),
        as_given=data.get("as_given", False),
    )


def _default_from_json(data: Json) -> LayerDefault:
    only = Precision(data["weight_only"]) if "weight_only" in data else None
    return LayerDefault(Precision(data["precision"]), data.get("why", ""), only, data.get("bias", ""))


def _entry_from_json(data: Json) -> Entry:
    numbers: Json = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k not in ("dtype", "qtype")}
    return Entry(dtype=Precision(data["dtype"]), qtype=Scheme(data["qtype"]) if "qtype" in data else None, **numbers)


def _measured_from_json(data: Json) -> Measured:
    ranges = {
        algorithm: {int(bits): _range_from_json(r) for bits, r in by_bits.items()}
        for algorithm, by_bits in data["ranges"].items()
    }
    return Measured(_range_from_json(data["range"]), ranges, data["fixed"], data.get("unbounded", False))


def _range_from_json(data: Json) -> Range:
    return Range(data["min"], data["max"])


def _write_weights(path: Path, weights: Iterable[tuple[str, NDArray[Any]]]) -> tuple[Json, str]:
    digest, offset, placed = hashlib.sha256(), 0, {}
    with path.open("wb") as file:
        for name, values in weights:
            padding = b"\0" * (-offset % ALIGNMENT)
            for chunk in (padding, *_chunks(values)):
                file.write(chunk)
                digest.update(chunk)
            offset += len(padding)
            dtype = dtype_name(helper.np_dtype_to_tensor_dtype(values.dtype))
            placed[name] = {"dtype": dtype, "shape": list(values.shape), "offset": offset, "bytes": values.nbytes}
            offset += values.nbytes
    return placed, digest.hexdigest()


def _chunks(values: NDArray[Any]) -> Iterator[bytes]:
    flat = np.ascontiguousarray(values).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    step = max(1, (1 << 24) // max(1, flat.itemsize))
    for start in range(0, flat.size, step):
        yield little[start : start + step].tobytes()


def _read_weights(path: Path, data: Json, verify: bool) -> Mapped:
    if data["file"] != WEIGHTS:  # it must not lead out of the folder
        raise ValueError(data["file"])
    size = look_at(path, missing="missing: it belongs to model.json", hint="Run step1 again.")
    wanted = max((t["offset"] + t["bytes"] for t in data["tensors"].values()), default=0)
    if size != wanted:
        raise StorageError(f"damaged: {size} bytes, not {wanted}", path=str(path), hint="Run step1 again.")
    if verify and file_digest(path) != data["sha256"]:
        raise StorageError(
            "damaged: its checksum is not the one in model.json", path=str(path), hint="Run step1 again."
        )
    raw = np.memmap(path, np.uint8, "r") if wanted else np.zeros(0, np.uint8)
    found = {}
    for name, t in data["tensors"].items():
        dtype = helper.tensor_dtype_to_np_dtype(elem_type(t["dtype"]))
        found[name] = raw[t["offset"] : t["offset"] + t["bytes"]].view(dtype).reshape(t["shape"])
    return Mapped({**found, **_lying(path, data, wanted)}, found)


def _lying(path: Path, data: Json, size: int) -> dict[str, onnx.TensorProto]:
    """The large tensors of a large ``weights.data``, as initializers that lie there."""
    found = {}
    for name, t in data["tensors"].items() if size >= outside.LARGE and outside.on_root(path) else ():
        tensor = onnx.TensorProto(name=name, data_type=elem_type(t["dtype"]), dims=t["shape"])
        if outside.may_lie(tensor, t["bytes"]):
            outside.lay(tensor, Place(path.resolve(), t["offset"], t["bytes"]))
            found[name] = tensor
    return found
