"""Convert model.onnx with RKNN-Toolkit2, layers and ranges as hybridq chose them: ``python convert.py``.

Run it where rknn-toolkit2 is installed, in any folder; its files lie beside it. The toolkit's step 1 writes a cfg,
whose names only it knows; ``plan.json`` says what hybridq chose, and both are brought together here: every name of a
raised layer, those that the toolkit derives included, and the range of every tensor. Step 2 follows, its log is read
back, and what the toolkit refused or merged is reported. Then ``.rknn`` is exported and the toolkit's accuracy analysis
runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NOISE = 1e-6
LAYERS, PARAMETERS = "custom_quantize_layers", "quantize_parameters"
MADE_LATER = re.compile(r"__(int8|int16|float16)$")  # conversions, which only step 2 makes
MOVED = re.compile(r"(-rs|_rs|_sw|_mm)$")  # the same values, reshaped, transposed, or a Gemm's before that
PARTS = re.compile(r"_conv(_add)?$")  # a Concat before a 1x1 Conv becomes Convs of its inputs and their sum
REPLACED = re.compile(r"(_2gavg)?_2(conv\d*|mul)$")  # pooling as Convs
SLICED = re.compile(r"_2sl(-rs)?$")  # Gather as a slice
END = "_int8"  # the quantized form of a model input or output
KEPT = ["fuse_concat_conv"]  # a Conv a part of a Concat and their sum: every part would be rounded once more
CHANGED = re.compile(r"quantize_parameters\['(.+?)'\] were changed")
REACH = re.compile(r"\b(from|to) *: (\(.*\))")
SAID = {  # what the toolkit says below a changed range, and of the model's ends
    "refused": re.compile(r"BUT IT IS INVALID"),
    "merged": re.compile(r"But final to (\(.*\))"),
    "ends": re.compile(r"The default (input|output) dtype of '(.+?)' is changed .*? to '(.+?)'"),
}
ENTRY, FIELD, ITEM = re.compile(r"    (\S.*):\s*$"), re.compile(r"        (\w+):"), re.compile(r"        -   ")
ANCHOR = re.compile(r": ([&*])(\S+)\s*$")
UNKNOWN = re.compile(r"Invalid operands name '(.+?)' in custom_quantize_layers")


@dataclass
class Plan:
    """What hybridq chose: ``types`` by tensor (all that is not int8), ``ranges`` by tensor, names of nodes and joins.

    ``observed`` is what a tensor took in calibration, ``readers`` are the tensors made from it by a layer. ``nodes``
    maps a node's name to the tensor it writes, ``joins`` what a Concat joins to the 1x1 Conv behind it; ``constants``
    are never named; ``inputs`` and ``outputs`` are the model's.
    """

    types: dict[str, str]
    ranges: dict[str, list[float]]
    observed: dict[str, list[float]] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    joins: dict[str, str] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def known(self, name: str) -> bool:
        """Whether hybridq has a tensor of this name."""
        return name in self.ranges or name in self.types

    def owner(self, name: str, reach: list[float]) -> tuple[str, bool]:
        """The tensor of ours behind a name of the toolkit's, and whether the toolkit's has the very same values.

        ``reach`` is what the toolkit's took in calibration. Empty for what is not ours.
        """
        if self.known(name):
            return name, True
        if MADE_LATER.search(name) or name in self.constants:
            return "", False
        if name.endswith(END) and self.known(name.removesuffix(END)):
            return name.removesuffix(END), True
        sliced = SLICED.search(name)
        if sliced:
            return self.owner(self.nodes.get(name[: sliced.start()], ""), reach)
        moved = MOVED.search(name)
        if moved:
            base, same = self.owner(name[: moved.start()], reach)
            return self._nearest(base, reach), same and moved[0] != "_mm"
        part = PARTS.search(name)
        if part and name[: part.start()] in self.joins:
            return self.joins[name[: part.start()]], False
        found = part or REPLACED.search(name)
        if found:
            base = name[: found.start()]
            return self.owner(self.nodes.get(base, base), reach)[0], False
        return "", False

    def _nearest(self, base: str, reach: list[float]) -> str:
        """``base``, or what reads it if that took this reach: the toolkit swaps movement and what stands behind it."""
        candidates = [t for t in (base, *self.readers.get(base, ())) if t in self.observed]
        return min(candidates, key=lambda t: _distance(self.observed[t], reach), default=base)


@dataclass
class Edits:
    """What is written into the toolkit's cfg: types by name, ranges by name, and lines that tell of it."""

    types: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, list[float]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def edits_of(entries: dict[str, Any], plan: Plan, dropped: set[str]) -> Edits:
    """The plan's types and ranges by the toolkit's names, but for the names in ``dropped``."""
    owners = {name: plan.owner(name, _reach(entry)) for name, entry in entries.items()}
    chosen: dict[str, str] = {}
    for name, (tensor, _) in owners.items():
        kind = plan.types.get(tensor, "")
        if kind and name not in plan.constants and not _is_constant(entries[name]):
            chosen |= _named(name, kind, entries, plan)
    found = Edits({n: kind for n, kind in chosen.items() if n not in dropped})
    found.lines = [f"{n}: {kind}" for n, kind in found.types.items()]
    found.ranges = dict(_moved_ranges(entries, plan, owners))
    for name, ours in found.ranges.items():
        low, high = _numbers(entries[name], "min", "max")
        found.lines.append(f"{name}: {low:g}..{high:g} becomes {ours[0]:g}..{ours[1]:g}")
    raised = {owners[n][0] for n in owners if n in chosen or n + END in chosen}
    missing = [t for t in plan.types if t not in raised and t not in entries]
    found.lines += [f"{t}: the toolkit has no such tensor; it was folded away" for t in missing]
    return found


def _moved_ranges(
    entries: dict[str, Any], plan: Plan, owners: dict[str, tuple[str, bool]]
) -> Iterator[tuple[str, list[float]]]:
    """Our range of every name whose values are ours and whose range is another one."""
    for name, (tensor, same) in owners.items():
        ours, entry = plan.ranges.get(tensor) if same else None, entries[name]
        if ours is not None and entry["scale"] and _distance(ours, _numbers(entry, "min", "max")) > NOISE:
            yield name, ours


def edited(text: str, edits: Edits) -> str:
    """The toolkit's cfg with the edits; every other character stays, since the toolkit refuses any other change."""
    types = "".join(f"    {quoted(name)}: {kind}\n" for name, kind in edits.types.items())
    block = f"{LAYERS}:\n{types}" if types else f"{LAYERS}: {{}}\n"
    lines = re.sub(rf"(?m)^{LAYERS}:.*\n(?:    .*\n)*", lambda _: block, text, count=1).splitlines()
    name, below, out, held = "", False, list[str](), dict[str, list[str]]()
    while lines:
        line = lines.pop(0)
        entry, part = ENTRY.match(line), FIELD.match(line)
        below = below or line.startswith(f"{PARAMETERS}:")
        if below and entry:
            name = _unquoted(entry[1])
        items = _items(lines) if part else []
        mark = ANCHOR.search(line) if part else None
        if part and name in edits.ranges and part[1] in ("min", "max"):
            if mark and mark[1] == "&":
                held[mark[2]] = items
            number = edits.ranges[name][part[1] == "max"]
            line, items = f"        {part[1]}:", [f"        -   {number!r}"]
        elif part and mark and mark[1] == "*" and mark[2] in held:  # its list stood where the range was changed
            line, items = f"        {part[1]}: &{mark[2]}", held.pop(mark[2])
        out += [line, *items]
    return "\n".join(out) + "\n"


def _items(lines: list[str]) -> list[str]:
    """The items of a list, taken off the front of ``lines``."""
    found = []
    while lines and ITEM.match(lines[0]):
        found.append(lines.pop(0))
    return found


def _unquoted(text: str) -> str:
    """The name behind a key as the toolkit writes it."""
    return text[1:-1].replace("''", "'") if text.startswith("'") else text.strip('"')


def quoted(name: str) -> str:
    """A name in quotes, whatever it looks like."""
    return "'" + name.replace("'", "''") + "'"


def _named(name: str, kind: str, entries: dict[str, Any], plan: Plan) -> dict[str, str]:
    """How a type is written for one name: an end of the model is quantized in a tensor of its own."""
    if str(entries[name].get("dtype")) == "float16" and kind == "int16":
        return {}  # what the toolkit computes in float16 by itself, such as a Softmax, int16 would only harm
    if name.endswith(END) and name.removesuffix(END) in plan.inputs + plan.outputs:
        return {name: kind} if kind == "int16" else {}
    if name in plan.inputs:
        return {}
    if name in plan.outputs and name + END in entries and kind == "int16":
        return {name + END: kind}
    return {name: kind}


def _is_constant(entry: Any) -> bool:
    return str(entry.get("dtype")) == "int32"


def _reach(entry: Any) -> list[float]:
    """What a tensor took in calibration, as far as the cfg says."""
    return _numbers(entry, "ori_min", "ori_max") or _numbers(entry, "min", "max")


def _numbers(entry: Any, *names: str) -> list[float]:
    found = [entry.get(name) for name in names]
    return [float(values[0]) for values in found] if all(found) else []


def _distance(a: list[float], b: list[float]) -> float:
    """How far two ranges lie apart, relative to the wider one."""
    if not b:
        return 0.0
    width = max(a[1] - a[0], b[1] - b[0], 1e-30)
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) / width


def read_log(text: str) -> dict[str, list[str]]:
    """What the toolkit said to the edits: ranges taken, refused and merged, and the types of the model's ends."""
    found: dict[str, list[str]] = {"taken": [], **{kind: [] for kind in SAID}}
    name = ends = ""
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        if changed := CHANGED.search(line):
            name, ends = changed[1], ""
        elif reach := REACH.search(line):
            ends += f" {reach[1]} {reach[2]}"
            found["taken"] += [f"{name}:{ends}"] if reach[1] == "to" else []
        else:
            for kind, pattern in SAID.items():
                if said := pattern.search(line):
                    words = f"{said[1]} {said[2]}: {said[3]}" if kind == "ends" else f"{name}: {said[0]}"
                    found[kind].append(words)
    return {kind: list(dict.fromkeys(lines)) for kind, lines in found.items()}


def load_plan(path: Path) -> tuple[Plan, dict[str, Any]]:
    """The plan, and how the model is fed."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Plan(**data["plan"]), data["feed"]


class Toolkit:
    """One run of the toolkit; every call that fails ends the script with what it said."""

    def __init__(self, log: Path, platform: str, feed: dict[str, Any]) -> None:
        from rknn.api import RKNN

        self.log, self.rknn = log, RKNN(verbose=True, verbose_file=str(log))
        words: dict[str, Any] = {"target_platform": platform, "quantized_algorithm": "normal", "disable_rules": KEPT}
        if feed.get("mean"):
            words |= {"mean_values": feed["mean"], "std_values": feed["std"]}
        self.rknn.config(quantized_method="channel", **words)

    def call(self, name: str, **words: Any) -> None:
        """Call one function of the toolkit."""
        if getattr(self.rknn, name)(**words) not in (0, None):
            raise SystemExit(f"{name} failed; see {self.log}")


def step1(work: Path, platform: str, feed: dict[str, Any]) -> Path:
    """The toolkit's step 1; the cfg it wrote."""
    toolkit = Toolkit(work / "step1.log", platform, feed)
    toolkit.call("load_onnx", model=str(HERE / "model.onnx"))
    toolkit.call("hybrid_quantization_step1", dataset=str(HERE / "dataset.txt"))
    toolkit.rknn.release()
    return work / "model.quantization.cfg"


def step2(work: Path, platform: str, feed: dict[str, Any], cfg: Path) -> Toolkit:
    """The toolkit's step 2. Raises ValueError where the cfg has a name that it does not know."""
    toolkit = Toolkit(work / "step2.log", platform, feed)
    files = {"model_input": "model.model", "data_input": "model.data"}
    words = {k: str(work / v) for k, v in files.items()}
    toolkit.call("hybrid_quantization_step2", model_quantization_cfg=str(cfg), **words)
    return toolkit


def converted(work: Path, platform: str) -> tuple[Toolkit, list[str]]:
    """Both steps, the cfg edited between them; a name that the toolkit does not know is dropped and told."""
    from ruamel.yaml import YAML

    plan, feed = load_plan(HERE / "plan.json")
    text, dropped = step1(work, platform, feed).read_text(encoding="utf-8"), set[str]()
    entries = {str(k): v for k, v in YAML(typ="safe").load(text)[PARAMETERS].items()}
    while True:
        edits, cfg = edits_of(entries, plan, dropped), work / "hybridq.quantization.cfg"
        cfg.write_text(edited(text, edits), encoding="utf-8")
        try:
            return step2(work, platform, feed, cfg), edits.lines + [f"{n}: refused by the toolkit" for n in dropped]
        except ValueError as error:
            unknown = UNKNOWN.search(str(error))
            if unknown is None or unknown[1] in dropped:
                raise
            dropped.add(unknown[1])


def simulate(toolkit: Toolkit, listed: Path, folder: Path) -> None:
    """Run the toolkit's simulator on every line of ``listed``; every output goes to ``folder`` as a ``.npy``."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    toolkit.call("init_runtime", target=None)
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines()):
        arrays = [np.load(listed.parent / path) for path in line.split()]
        layouts = ["nchw" if a.ndim == 4 else "undefined" for a in arrays]
        for index, output in enumerate(toolkit.rknn.inference(inputs=arrays, data_format=layouts)):
            np.save(folder / f"{number:04d}_{index}.npy", output)


def main() -> None:
    """Convert, report, analyse."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--platform", default="rk3588", help="rk3588, rk3576, rk3568, ...  [default: rk3588]")
    parser.add_argument("--out", type=Path, default=HERE / "rknn", help="where files go  [default: rknn/ here]")
    parser.add_argument("--no-analysis", action="store_true", help="leave out the toolkit's accuracy analysis")
    parser.add_argument("--simulate", type=Path, help="a list like dataset.txt of .npy to run in the simulator")
    given = parser.parse_args()
    work, listed = given.out.resolve(), given.simulate and given.simulate.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)  # the toolkit writes its files where it stands
    toolkit, lines = converted(work, given.platform)
    said = read_log((work / "step2.log").read_text(encoding="utf-8", errors="replace"))
    report = ["asked:", *lines, *(f"{kind}: {line}" for kind, found in said.items() for line in found)]
    (work / "report.txt").write_text("\n".join(report) + "\n", encoding="utf-8")
    toolkit.call("export_rknn", export_path=str(work / "model.rknn"))
    sample = (HERE / "dataset.txt").read_text(encoding="utf-8").splitlines()[0].split()
    if not given.no_analysis:
        toolkit.call("accuracy_analysis", inputs=[str(HERE / s) for s in sample], output_dir=str(work / "analysis"))
    if listed:
        simulate(toolkit, listed, work / "outputs")
    toolkit.rknn.release()
    sys.stdout.write(f"{len(lines)} lines asked, {len(said['taken'])} ranges taken, {len(said['refused'])} refused, ")
    sys.stdout.write(f"{len(said['merged'])} merged: {work / 'report.txt'}\nwrote {work / 'model.rknn'}\n")


if __name__ == "__main__":
    main()
