"""``model.json`` and ``weights.data``: the state that step1 leaves and every later command reads.

``model.json`` says what ``weights.data`` holds and where. What step1 was asked and decided is one section of it, what a
search found better another. Neither file holds times, hosts, paths or worker counts: same input, same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from hybridq import __version__
from hybridq.errors import StorageError
from hybridq.files.commit import Committed, reading
from hybridq.files.reading import read_json, write_text
from hybridq.files.seal import read_sealed, sealed, text_digest
from hybridq.graph.edit import TakenNames
from hybridq.graph.halves import half_ends, narrow_ends
from hybridq.graph.model import Model
from hybridq.graph.opset import opset_of
from hybridq.graph.outside import Mapped, without_initializers
from hybridq.quant.records import Calibrated
from hybridq.storage import version_1
from hybridq.storage.model_json import model_from_json, proto_to_json
from hybridq.storage.record_json import Json, calibrated_from_json, entries_from_json, to_json
from hybridq.storage.tensors import read_rows, write_rows
from hybridq.storage.weights import Tensors, Weights

FORMAT = "hybridq.model/2"
MODEL, WEIGHTS, CFG = "model.json", "weights.data", "model.quantization.cfg"
ROWS = ("tensors", "biases", "rounded", "sample")  # of weights.data, and the search's two
EARLIER = "written by an earlier hybridq, or edited"


@dataclass(frozen=True)
class Decided:
    """What step1 decided and wrote, before any search."""

    calibrated: Calibrated
    weights: Weights
    model: Model


@dataclass(frozen=True)
class State:
    """What a folder holds after step1. ``weights`` are read-only, memory-mapped arrays.

    ``calibrated`` and ``weights`` are what counts: step1's, but for the entries, biases and roundings that a search put
    in their place; ``step1`` is then what step1 had decided. ``samples`` is the number of calibration samples,
    ``sequence`` the number of steps after which a sequence of a recurrent model ends (None: where its dataset says),
    ``sample`` the first feed, ``cfg_digest`` the fingerprint of the cfg as step1 or the search wrote it (empty: nothing
    is known of it), ``digests`` those of the files it was read from, by their names.
    """

    model: Model
    weights: Weights
    calibrated: Calibrated
    preprocessing: Json
    samples: int = 0
    sequence: int | None = None
    sample: Tensors = field(default_factory=dict)
    cfg_digest: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    step1: Decided | None = None

    @property
    def decided(self) -> Decided:
        """What step1 decided."""
        return self.step1 or Decided(self.calibrated, self.weights, self.model)

    def wrote(self, cfg: str) -> bool:
        """Whether a cfg's text is the one that was written for this state: nobody edited it since."""
        return text_digest(cfg) == self.cfg_digest

    def before_search(self) -> State:
        """As step1 left it."""
        first = self.decided
        return replace(self, model=first.model, calibrated=first.calibrated, weights=first.weights, step1=None)

    def searched(self, calibrated: Calibrated, weights: Weights) -> State:
        """With entries, biases and roundings that a search found better than step1's, and separate Concats.

        Where there are such, the model is still step1's; ``plan.separate`` gives the one that goes with them.
        """
        return replace(self, calibrated=calibrated, weights=weights, step1=self.decided)


def with_cfg(state: State, text: str) -> State:
    """The state that remembers ``text`` as the cfg that was written for it."""
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
    narrow_ends(whole, half_ends(whole) or (), TakenNames.of(whole.graph).fresh)
    return whole


def write_state(folder: Path, state: State) -> None:
    """Write ``model.json`` and ``weights.data`` into ``folder``."""
    first = state.decided
    given, biases, rounded = first.weights.initializers, first.weights.biases, first.weights.rounded
    rows = dict(zip(ROWS, (given, biases, rounded, state.sample), strict=True))
    found = {"biases": state.weights.biases, "rounded": state.weights.rounded} if state.step1 else {}
    placed, digest = write_rows(folder / WEIGHTS, {**rows, **{_of_search(k): v for k, v in found.items()}})
    data = {
        "format": FORMAT,
        "versions": {"hybridq": __version__, "opset": opset_of(state.model.proto)},
        "model": {"name": state.model.name, "sha256": state.model.sha256},
        "preprocessing": state.preprocessing,
        "samples": {"count": state.samples},
        "cfg": {"sha256": state.cfg_digest},
        **_states_to_json(state),
        "calibration": _record_to_json(first.calibrated),
        **_search_to_json(state, {k: placed[_of_search(k)] for k in found}),
        "layers": [to_json(x) for x in first.model.layers],
        "groups": [to_json(g) for g in first.model.groups],
        "graph": proto_to_json(state.model.proto),
        "weights": {"file": WEIGHTS, "sha256": digest, **{k: placed[k] for k in ROWS}},
    }
    write_text(folder / MODEL, sealed(_dumps(data)))


def _of_search(row: str) -> str:
    """The name of a row that a search made, among those of step1."""
    return f"search {row}"


def _search_to_json(state: State, placed: Json) -> Json:
    """What a search put in the place of step1's; nothing where none has been."""
    if state.step1 is None:
        return {}
    before = state.step1.calibrated.entries
    entries = {k: to_json(e) for k, e in state.calibrated.entries.items() if e != before.get(k)}
    separate = {"separate": list(state.calibrated.separate)} if state.calibrated.separate else {}
    return {"search": {"entries": entries, **separate, **placed}}


def _record_to_json(calibrated: Calibrated) -> Json:
    """What step1 decided: no Concat is separate yet."""
    left = {"separate", "written", *(() if calibrated.apart else ("apart",))}
    return {k: v for k, v in to_json(calibrated).items() if k not in left}


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
    """What an earlier release left, sealed or not; None where the folder has today's format, or nothing of ours.

    Its weights are compared with their checksum. Raises StorageError where anything of it is damaged.
    """
    with reading(directory) as view:
        path = view.path(MODEL)
        data = read_json(path) if path.is_file() else None
        if not isinstance(data, dict) or data.get("format") != version_1.FORMAT:
            return None
        data = _sealed(path) if "digest" in data else {**data, "digest": ""}
        return _state(view, data, verify=True)


def _read(view: Committed, verify: bool) -> State:
    path = view.path(MODEL)
    if not path.exists():
        raise StorageError(
            f"there is no {MODEL} here", path=str(view.directory), hint="Run `hybridq step1` with `-o` this folder."
        )
    return _state(view, _sealed(path), verify)


def _sealed(path: Path) -> Json:
    """The object in model.json, of today's version or of the one before."""
    return read_sealed(path, (FORMAT, version_1.FORMAT), "Run step1 again.", unsealed=EARLIER)


def _state(view: Committed, data: Json, verify: bool) -> State:
    """The state that ``data``, the object in model.json, tells of."""
    try:
        return _state_from_json(view, version_1.restated(data) if data["format"] == version_1.FORMAT else data, verify)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        where = str(view.path(MODEL))
        raise StorageError(f"damaged: {error!r}", path=where, hint="Run step1 again.") from error


def _state_from_json(view: Committed, data: Json, verify: bool) -> State:
    held, found = data["weights"], data.get("search")
    if held["file"] != WEIGHTS:  # it must not lead out of the folder
        raise ValueError(held["file"])
    rows = {k: held[k] for k in ROWS}
    if found is not None:
        rows |= {_of_search(k): found[k] for k in ("biases", "rounded")}
    tensors = read_rows(view.path(WEIGHTS), rows, held["sha256"], verify=verify)
    weights = Weights(tensors["tensors"], tensors["biases"], tensors["rounded"])
    state = State(
        model=model_from_json(data, weights),
        weights=weights,
        calibrated=calibrated_from_json(data["calibration"]),
        preprocessing=data["preprocessing"],
        samples=data["samples"]["count"],
        sequence=data.get("states", {}).get("sequence"),
        sample=tensors["sample"],
        cfg_digest=data["cfg"]["sha256"],
        digests={MODEL: data["digest"], WEIGHTS: held["sha256"]},
    )
    if found is None:
        return state
    entries = {**state.calibrated.entries, **entries_from_json(found["entries"])}
    made = Weights(weights.initializers, tensors[_of_search("biases")], tensors[_of_search("rounded")])
    record = replace(state.calibrated, entries=entries, rounded=tuple(made.rounded))
    return state.searched(replace(record, separate=tuple(found.get("separate", ()))), made)


def _states_to_json(state: State) -> Json:
    """What goes round in a recurrent model; nothing for any other."""
    if not state.model.states:
        return {}
    ended = {} if state.sequence is None else {"sequence": state.sequence}
    return {"states": {"pairs": dict(state.model.states), **ended}}


def _dumps(data: Json) -> str:
    """JSON with one line a list entry of the outer level: readable, and diffs stay small."""
    parts = []
    for key, value in data.items():
        if isinstance(value, list):
            inner = ",\n".join("    " + json.dumps(v, ensure_ascii=False) for v in value)
            parts.append(f"  {json.dumps(key)}: [\n{inner}\n  ]")
        elif isinstance(value, dict) and key in ("graph", "calibration", "search", "weights"):
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
