"""Would the tests notice? One-line mutants of the code, each against the tests that cover its line.

    python bench/mutants.py                          # 300 mutants of quant, plan, build and search, seed 0
    python bench/mutants.py --count 20 --seed 1      # fewer, others
    python bench/mutants.py --least 0.85             # exit with 1 where fewer are killed

Which tests reach a line is measured first, by coverage with a context a test (minutes; kept in ``.mutants/`` until a
source or a test is newer). A mutant is a copy of the package with one changed expression. A process that has imported
the big libraries forks for each: the child runs the tests that reach the line, the quickest first, and stops at the
first failure. Killed: a test failed, or ran into the time limit (told apart). Survivors are printed; some are equal
in meaning, most are a missing law. Linux only (fork).
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path

import pytest
from coverage import CoverageData

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".mutants"
ROOMS = ("quant", "plan", "build", "search")
SECONDS = 25.0  # of tests a mutant, by their usual times; and twice that before it counts as killed
SWAPS: dict[type, str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in", ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*",
    ast.FloorDiv: "*", ast.Pow: "*", ast.Mod: "*", ast.And: "or", ast.Or: "and", ast.BitOr: "&", ast.BitAnd: "|",
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum"}
NAMES |= {"argmin": "argmax", "argmax": "argmin", "floor": "ceil", "ceil": "floor"}


@dataclass(frozen=True, order=True)
class Mutant:
    """``new`` instead of ``old`` from ``start`` on in a line of a file."""

    file: str
    line: int
    start: int
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The file's text with the change."""
        lines = text.splitlines(keepends=True)
        line = lines[self.line - 1]
        assert line[self.start : self.start + len(self.old)] == self.old
        lines[self.line - 1] = line[: self.start] + self.new + line[self.start + len(self.old) :]
        return "".join(lines)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file: operators, constants, conditions, arguments of min and max, results."""
    text = path.read_text(encoding="utf-8")
    lines, file = text.splitlines(), path.relative_to(ROOT).as_posix()
    tree = ast.parse(text)
    skipped = set(_not_run(tree))

    def between(a: ast.expr, b: ast.expr, new: str) -> Iterator[Mutant]:
        if a.end_lineno == b.lineno and a.end_col_offset is not None:
            old = lines[b.lineno - 1][a.end_col_offset : b.col_offset]
            if old.strip("() ") and "(" not in old and ")" not in old:
                yield Mutant(file, b.lineno, a.end_col_offset, old, f" {new} ")

    def whole(node: ast.expr, new: str) -> Iterator[Mutant]:
        if node.lineno == node.end_lineno:
            old = lines[node.lineno - 1][node.col_offset : node.end_col_offset]
            yield Mutant(file, node.lineno, node.col_offset, old, new)

    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield from between(node.left, node.comparators[0], SWAPS[type(node.ops[0])])
        elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            yield from between(node.left, node.right, SWAPS[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            yield from between(node.values[0], node.values[1], SWAPS[type(node.op)])
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
            yield from whole(node, repr(not node.value if isinstance(node.value, bool) else node.value + 1))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            yield from whole(node, f"({ast.unparse(node.operand)})")
        elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.BoolOp):
            yield from whole(node.test, f"(not ({ast.unparse(node.test)}))")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield from whole(node.func, NAMES[node.func.id])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
            yield from whole(node.func, f"{ast.unparse(node.func.value)}.{NAMES[node.func.attr]}")


def _not_run(tree: ast.Module) -> Iterator[ast.AST]:
    """Annotations, defaults of slots and the like, which no test can see."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]
            parts = [node.returns, *node.decorator_list, *(a.annotation for a in every)]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.ClassDef):
            parts = list(node.decorator_list)
        elif (
            isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr)
        ):
            parts = [node.value]  # an alias of types
        elif isinstance(node, ast.Raise) and node.exc:
            parts = [node.exc]  # the words of a message
        for part in parts:
            yield from ast.walk(part) if part else ()


def measure(tests: list[str]) -> None:
    """Run the tests once, with a context each, and keep what they reach and how long they take."""
    KEPT.mkdir(exist_ok=True)
    words = [
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "--cov=hybridq",
        "--cov-context=test",
        "--cov-report=",
    ]
    words += [f"--junitxml={KEPT / 'times.xml'}", "-o", "junit_family=xunit1", *tests]
    environment = {**os.environ, "COVERAGE_FILE": str(KEPT / "coverage"), "PYTHONPATH": str(ROOT), "CI": "1"}
    subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment, check=False)


def is_fresh() -> bool:
    """Whether what was measured is newer than every source and test."""
    data = KEPT / "coverage"
    sources = [p for folder in ("hybridq", "tests") for p in (ROOT / folder).rglob("*.py")]
    return data.exists() and data.stat().st_mtime > max(p.stat().st_mtime for p in sources)


def reached() -> dict[tuple[str, int], list[str]]:
    """By file and line the tests that run it, the quickest first."""
    seconds: dict[str, float] = {}
    for case in ET.parse(KEPT / "times.xml").iter("testcase"):
        seconds[f"{case.get('file')}::{case.get('name')}"] = float(case.get("time", 0))
    found: dict[tuple[str, int], set[str]] = {}
    data = CoverageData(str(KEPT / "coverage"))
    data.read()
    known = _collected()
    for path in data.measured_files():
        file = Path(path).relative_to(ROOT).as_posix()
        lines = {n: {c.rpartition("|")[0] for c in contexts} for n, contexts in data.contexts_by_lineno(path).items()}
        every = set().union(*lines.values()) & known
        for line, tests in lines.items():
            found[(file, line)] = tests & known or every  # what runs at import is seen by all that use the file

    def usual(test: str) -> float:
        file, _, rest = test.partition("::")
        return seconds.get(f"{file}::{rest.rpartition('::')[2]}", 1.0)

    return {place: _affordable(sorted((usual(t), t) for t in tests)) for place, tests in found.items() if tests}


def _collected() -> set[str]:
    """The tests that can be asked for by name."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return {line for line in done.stdout.splitlines() if "::" in line}


def _affordable(tests: list[tuple[float, str]]) -> list[str]:
    """The quickest tests, as many as usually take ``SECONDS``; one at least."""
    ends = accumulate(seconds for seconds, _ in tests)
    return [test for (_, test), end in zip(tests, ends, strict=True) if end <= SECONDS] or [tests[0][1]]


def fate(mutant: Mutant, tests: list[str], work: Path) -> str:
    """killed: one of the tests fails on the mutant; endless: they do not end; alive: all pass."""
    target = work / mutant.file
    whole = target.read_text(encoding="utf-8")
    target.write_text(mutant.applied(whole), encoding="utf-8")
    try:
        child = os.fork()
        if not child:
            _run(tests, work)
        end = time.monotonic() + 2 * SECONDS + 10
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                if code == 3:
                    raise SystemExit(f"pytest itself failed on {' '.join(tests[:3])}")
                # 2 and 4: a module of the tests cannot be imported; 5: nothing to run
                return "alive" if code in (0, 5) else "killed"
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "endless"
    finally:
        target.write_text(whole, encoding="utf-8")


def _run(tests: list[str], work: Path) -> None:
    """In the child: run the tests on the copy and leave with pytest's exit code."""
    code = 3
    try:
        os.setpgrp()
        os.chdir(work)
        os.environ["PYTHONPATH"] = str(work)
        sys.path[:0] = [str(work), str(work / "tests")]
        sys.dont_write_bytecode = True
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            code = int(pytest.main(["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="of CPU time for all mutants together")
    parser.add_argument("--least", type=float, default=0.0, help="share to be killed")
    parser.add_argument("--tests", nargs="*", default=["tests"])
    given = parser.parse_args()
    if not is_fresh():
        measure(given.tests)
    covering = reached()
    every = sorted({m for room in ROOMS for p in (ROOT / "hybridq" / room).rglob("*.py") for m in mutants(p)})
    sample = random.Random(given.seed).sample(every, min(given.count, len(every)))
    for library in ("numpy", "onnx", "onnxruntime", "pytest", "PIL.Image", "rich.table", "jsonschema"):
        import_module(library)  # so that the children have them

    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("hybridq", "tests", "schemas", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, work / name)
        for mutant in sample:
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            if used.ru_utime + used.ru_stime > given.minutes * 60:
                print(f"{given.minutes:g} minutes are over")
                break
            tests = covering.get((mutant.file, mutant.line), [])
            end = fate(mutant, tests, work) if tests else "alive"
            tried[end] += 1
            if end == "alive":
                why = "" if tests else "  (no test reaches it)"
                print(f"{mutant.file}:{mutant.line}: {mutant.old.strip()} -> {mutant.new.strip()}{why}", flush=True)
    killed, count = tried["killed"] + tried["endless"], sum(tried.values())
    share = killed / max(count, 1)
    limit = f"{tried['endless']} ran into the limit"
    print(f"seed {given.seed}: {killed} of {count} killed ({share:.0%}; {limit}), of {len(every)} there are")
    return 0 if share >= given.least else 1


if __name__ == "__main__":
    raise SystemExit(main())
