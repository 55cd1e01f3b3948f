"""In aimet-onnx's environment: load encodings. ``aimet_loads.py MODEL SAMPLES.npz OUT.npz ENCODINGS...``.

Prints, for each file, how many encodings had no quantizer to go to; writes the simulation's outputs with the last one.
Each tensor keeps its own encoding: by itself the simulation ties what Concat, AveragePool and Relu read and write to
one quantizer, and of several encodings that were loaded into it the last counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import aimet_onnx
import numpy as np
import onnx
from aimet_onnx.quantsim import QuantizationSimModel, _apply_constraints, load_encodings_to_sim


def names_of(path: str) -> set[str]:
    """Every tensor that an encodings file names."""
    data = json.loads(Path(path).read_text(encoding="utf-8"))
    found: set[str] = set()
    for key in ("activation_encodings", "param_encodings", "encodings"):
        part = data.get(key, [])
        found |= set(part) if isinstance(part, dict) else {e["name"] for e in part}
    return found


def main(model: str, samples: str, out: str, *encodings: str) -> None:
    """Load each file into a fresh simulation, run the last one."""
    sim = None
    for path in encodings:
        with _apply_constraints(False):
            sim = QuantizationSimModel(
                onnx.load(model), param_type="int8", activation_type="int8", config_file="htp_v81"
            )
        load_encodings_to_sim(sim, path, strict=False)
        on = {n for n, q in sim.qc_quantize_op_dict.items() if q.enabled}
        left = sorted(names_of(path) - set(sim.qc_quantize_op_dict))
        sys.stdout.write(f"{path}: {len(names_of(path))} encodings, {len(on)} quantizers on, left over: {left}\n")
    found, outputs_of = {}, [o.name for o in onnx.load(model).graph.output]
    with np.load(samples) as held:
        name = sim.session.get_inputs()[0].name
        for number, key in enumerate(sorted(held.files)):
            outputs = sim.session.run(None, {name: held[key]})
            found |= {f"{n}|{number:04d}": o for n, o in zip(outputs_of, outputs, strict=True)}
    np.savez(out, **found)
    sys.stdout.write(f"aimet-onnx {aimet_onnx.__version__}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
