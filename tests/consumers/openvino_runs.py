"""In OpenVINO's environment: run a portable model on samples. ``openvino_runs.py MODEL SAMPLES.npz OUT.npz``."""

from __future__ import annotations

import sys

import numpy as np
import openvino


def main(model: str, samples: str, out: str) -> None:
    """Every sample's outputs, by output name and number."""
    compiled = openvino.Core().compile_model(model, "CPU")
    found = {}
    with np.load(samples) as held:
        for number, key in enumerate(sorted(held.files)):
            outputs = compiled([held[key]])
            for port in compiled.outputs:
                name = sorted(port.get_names(), key=len)[0]
                found[f"{name}|{number:04d}"] = outputs[port]
    np.savez(out, **found)
    sys.stdout.write(f"openvino {openvino.__version__}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
