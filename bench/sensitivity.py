"""Time of the sensitivity analysis against float inferences and against one session a group.

    python bench/sensitivity.py [MODEL.onnx ...] [--samples 8] [--json]

Without models: MobileNetV2 with random weights. CPU seconds of one thread; session creation is told apart. The goal:
for N groups on M samples at most 0.7 * N * M float inferences, and at least twice as fast as a session a group.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from models import save

from hybridq.calibration.calibrate import calibrate
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.given import read_model
from hybridq.graph.runtime import Feed, run, session
from hybridq.plan.plan import make_plan
from hybridq.plan.record import Request, decide
from hybridq.quant.records import QuantConfig
from hybridq.search.measuring import alone
from hybridq.search.measuring.damage import measure_reference
from hybridq.search.measuring.growing import grow
from hybridq.search.measuring.quantizers import group_forms
from hybridq.storage import state as storage
from hybridq.targets import load


def seconds(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def measure(path: Path, samples: int) -> dict[str, Any]:
    given = read_model(path)
    proto = canonicalize(given)
    model = analyse(proto, given)
    random = np.random.default_rng(0)
    shapes = {n: [d if isinstance(d, int) else 1 for d in model.tensors[n].shape or ()] for n in model.inputs}
    feeds: list[Feed] = [
        {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(samples)
    ]
    weights, target = storage.weights_of(proto), load("onnxruntime")
    stats = calibrate(model, proto, list(enumerate(feeds)), threads=1)
    calibrated = decide(model, weights, stats.tensors, Request(target, target.default, "normal"), ["normal"])
    plan = make_plan(model, calibrated, QuantConfig(target.name, {}, calibrated.entries, {}), weights)
    one = session(proto, threads=1)
    reference = measure_reference(one, feeds, model)
    variants = [f for f in (group_forms(model, plan, weights, g) for g in model.groups) if f]
    inference = min(seconds(lambda: [run(one, f) for f in feeds]) for _ in range(5)) / samples
    making = seconds(lambda: session(grow(model, weights, {}, variants).proto, threads=1))
    asked = alone.Variants(model, weights, {}, variants, reference)
    together = seconds(lambda: list(alone.noise_of(asked, range(samples)))) - making
    first = variants[:: max(1, len(variants) // 8)]
    apart = seconds(lambda: alone.one_by_one(replace(asked, forms=first), range(samples), 1))
    apart *= len(variants) / (len(first) + 1)
    return {
        "model": path.parent.name if path.stem == "model" else path.stem,
        "groups": len(variants),
        "samples": samples,
        "inference_ms": round(1e3 * inference, 2),
        "session_s": round(making, 2),
        "inferences_a_group": round(together / inference / samples / len(variants), 3),
        "times_faster_than_sessions": round(apart / (together + making), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for path in asked.models or [save("mobilenet_v2", Path(folder))]:
            found = measure(path, asked.samples)
            print(json.dumps(found) if asked.json else "  ".join(f"{k} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
