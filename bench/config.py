"""How long the cfg of 2,000 layers takes to check and to edit. Goal: under 0.5 s each.

Run ``python bench/config.py [LAYERS]``; it prints medians of 7 runs, ruamel.yaml's bare reading beside them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers_config import PATH, chain

from hybridq.config import check, set_layers, unset_layers, write_cfg
from hybridq.config.schema import schema_validator

RUNS = 7


def median(step: Callable[[], object], runs: int = RUNS) -> float:
    """The median of ``runs`` times in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(count: int) -> None:
    model, calibrated = chain(count)
    text = write_cfg(model, calibrated)
    touched = text.replace("  # ", "   # ").replace("min: -1.5,", "min: -1.6,")
    broken = text.replace("zero_point: 106", "zero_point: 300").replace("customized_quantize_layers: {}", "a: {}")
    many = set_layers(text, PATH, model, calibrated, "*", "int16").text
    name = model.layers[count // 2].name
    start = time.perf_counter()
    schema_validator()
    print(f"{'jsonschema and the schema, once':32} {time.perf_counter() - start:7.3f} s")
    print(f"{count} layers, {len(text.splitlines())} lines, {len(text) / 1e6:.2f} MB")
    steps: dict[str, Callable[[], object]] = {
        "write": lambda: write_cfg(model, calibrated),
        "check, as step1 wrote it": lambda: check(text, PATH, model, calibrated),
        "check, every line touched": lambda: check(touched, PATH, model, calibrated),
        "check, with hundreds of errors": lambda: check(broken, PATH, model, calibrated),
        "check, every layer named": lambda: check(many, PATH, model, calibrated),
        "set one layer": lambda: set_layers(text, PATH, model, calibrated, name, "int16"),
        "set one parameter": lambda: set_layers(text, PATH, model, calibrated, name, None, {"max": "6"}),
        "set all layers": lambda: set_layers(text, PATH, model, calibrated, "*", "int16"),
        "unset all layers": lambda: unset_layers(many, PATH, model, calibrated, "*"),
    }
    for label, step in steps.items():
        print(f"{label:32} {median(step):7.3f} s")
    print(f"{'ruamel.yaml, reading alone':32} {median(lambda: YAML(typ='rt').compose(text), 1):7.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
