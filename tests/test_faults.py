"""Workers that die, full disks, names that steer a terminal, runs that never end: told, and nothing is lost."""

from __future__ import annotations

import ast
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_cli import Run
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import hybridq
from hybridq.cli.terminal import STEERING, SafeConsole, shown, shown_json
from hybridq.compare.metric import evaluate, load_metric
from hybridq.dataset.arrays import load_npy
from hybridq.dataset.spec import InputSpec
from hybridq.errors import DatasetError, HybridqError, ModelError, StorageError
from hybridq.execution.spread import TRIES, spread
from hybridq.execution.workers import Workers
from hybridq.files.temporary import temporary_folder
from hybridq.graph import runtime, watch

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits are POSIX")


def slow_double(number: int, folder: str = "", deaths: int = 0) -> int:
    """Twice a number; dies as often as asked, counted by files."""
    if folder:
        died = len(list(Path(folder).iterdir()))
        if died < deaths:
            (Path(folder) / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@posix
class TestWorkers:
    def test_a_worker_that_dies_is_replaced(self, tmp_path: Path) -> None:
        with Workers(2) as pool:
            shards = [(n, str(tmp_path) if n == 3 else "", TRIES - 1) for n in range(6)]
            assert sorted(spread(slow_double, shards, pool, 4)) == [(n, 2 * n) for n in range(6)]

    def test_a_shard_that_kills_every_worker_is_told(self, tmp_path: Path) -> None:
        with Workers(1) as pool, pytest.raises(HybridqError, match=f"died {TRIES} times"):
            list(spread(slow_double, [(1, str(tmp_path), 100)], pool, 1))
        assert len(list(tmp_path.iterdir())) == TRIES

    def test_an_error_of_the_work_is_its_own(self) -> None:
        with Workers(1) as pool, pytest.raises(ZeroDivisionError):
            list(spread(divmod, [(1, 0)], pool, 1))

    def test_an_executor_that_gives_no_new_worker_is_told(self, tmp_path: Path) -> None:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with pool, pytest.raises(HybridqError, match="gives no new one"):
            list(spread(slow_double, [(1, str(tmp_path), 100)], pool, 1))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_no_worker_outlives_its_parent(self, tmp_path: Path, number: int) -> None:
        code = (
            "import sys, time\nfrom hybridq.cli.terminal import ended_by_signals\n"
            "from hybridq.execution.workers import Workers\n"
            "if __name__ == '__main__':\n with ended_by_signals(), Workers(2) as pool:\n"
            "  a = [pool.submit(time.sleep, 0.05) for _ in range(4)]\n  [f.result() for f in a]\n"
            "  print(*pool._pool._processes, flush=True)\n  pool.submit(time.sleep, 60).result()\n"
        )
        script = tmp_path / "parent.py"
        script.write_text(code)
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen([sys.executable, script], **quiet) as parent:
            assert parent.stdout is not None
            workers = [int(pid) for pid in parent.stdout.readline().split()]
            assert workers
            parent.send_signal(number)
            parent.wait(30)
        end = time.monotonic() + 10
        while alive(workers) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(workers)


@posix
class TestStandardOutput:
    """What cannot be printed is said where that can be, once, and never ends as if all were well."""

    @pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- 2>&- <&-"])
    @pytest.mark.parametrize("command", ["--help", "list {folder}", "list {folder} --json"])
    def test_lost_output_is_no_success(self, small_folder: Path, command: str, redirection: str) -> None:
        start = "from hybridq.cli import main; main()"
        line = f"{sys.executable} -c '{start}' {command.format(folder=small_folder / 'build')} {redirection}"
        found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert found.returncode == 1
        assert "Traceback" not in found.stderr
        assert "Exception ignored" not in found.stderr
        assert ("standard output: cannot be written" in found.stderr) == ("2>" not in redirection)


@posix
@pytest.mark.parametrize("out", ["x", "a\\b.onnx", "pipe.onnx", "s/.onnx/x", "\udcff.onnx", "device.onnx", "dir.onnx"])
def test_a_model_is_written_to_a_file_of_its_own(folder: Path, run: Run, out: str) -> None:
    os.mkfifo("pipe.onnx")
    Path("device.onnx").symlink_to("/dev/full")
    Path("dir.onnx").mkdir()
    before = sorted(folder.rglob("*"))
    done = run("step2", "build", "-o", out, "--threads", "1")
    assert done.code in (1, 2), done.out
    assert "fault of hybridq" not in done.err
    assert sorted(folder.rglob("*")) == before


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(pid)
    return found


@given(st.text())
def test_what_is_shown_steers_nothing(text: str) -> None:
    assert not STEERING.search(shown(text))
    assert shown(shown(text)) == shown(text)
    assert json.loads(shown_json(json.dumps(text, ensure_ascii=False))) == text


@given(st.text())
def test_a_console_sends_no_control_character_of_a_name(text: str) -> None:
    out = io.StringIO()
    SafeConsole(file=out, width=200).print(text, markup=False, soft_wrap=True)
    assert not STEERING.search(out.getvalue().replace("\r", ""))


class TestMetrics:
    @pytest.mark.parametrize(
        "code",
        [
            "import sys\ndef f(o): sys.exit(0)",
            "def f(o): raise SystemExit",
            "class E(BaseException): pass\ndef f(o): raise E('b')",
            "class E(Exception):\n  def __str__(self): raise ValueError\ndef f(o): raise E()",
        ],
    )
    def test_whatever_it_raises_is_told_with_its_place(self, tmp_path: Path, code: str) -> None:
        (tmp_path / "m.py").write_text(code)
        with pytest.raises(HybridqError) as told:
            evaluate(load_metric("m.py:f", tmp_path), [], "f")
        assert "m.py" in str(told.value)

    def test_what_it_prints_does_not_reach_standard_output(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "m.py").write_text("print('while it loads')\ndef f(o):\n  print('called')\n  return 1.0\n")
        assert evaluate(load_metric("m.py:f", tmp_path), [], "f") == 1.0
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "while it loads\ncalled\n")


def test_a_wrong_shape_is_told_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "big.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (1500, 1000, 1000)}
        )
        file.truncate(6_000_000_128)  # sparse
    began = time.monotonic()
    with pytest.raises(DatasetError, match="has shape"):
        load_npy(path, InputSpec("x", (1, 3, 8, 8), "float32"))
    assert time.monotonic() - began < 2


MAGIC = b"\x93NUMPY"
WORST = {
    "a header of four gigabytes": MAGIC + b"\x02\x00" + b"\xff" * 4 + b"x",
    "a header that is nested": MAGIC + b"\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000,
    "a header that is code": MAGIC
    + b"\x01\x00"
    + (40).to_bytes(2, "little")
    + b"__import__('os').mkdir('pwned')".ljust(40),
    "a version that is none": MAGIC + b"\x09\x00" + b" " * 60,
    "a pickle": b"\x80\x04cos\nmkdir\n(S'pwned'\ntR.",
    "an archive": b"PK\x03\x04" + bytes(60),
    "nothing": b"",
}
SHAPES = [
    ("<f4", (10**9, 10**9)),
    ("<f4", (-1, 3)),
    ("|O", (1, 3)),
    ("<U9999999", (1, 3)),
    ("|V8", (1, 3)),
    ("<f4", (1, 3)),
]


def header_of(dtype: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return MAGIC + b"\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("content", [*WORST.values(), *(header_of(*one) for one in SHAPES)])
def test_the_worst_arrays_are_told_and_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npy").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError):
            load_npy(tmp_path / "x.npy")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "pwned").exists()


def test_a_full_temporary_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"no room in the temporary folder.*No space left"), temporary_folder():
        raise ModelError("ONNX Runtime cannot load the model")


def test_a_missing_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match="no temporary folder"), temporary_folder():
        pass


def test_what_goes_wrong_in_a_folder_with_room_stays_what_it_is() -> None:
    with pytest.raises(ModelError, match="the model"), temporary_folder():
        raise ModelError("ONNX Runtime cannot load the model")


def endless() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "one"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]),
        ],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.array(True), "true")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_run_without_end_is_told_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(watch, "SLOW", 0.3)
    monkeypatch.setattr(watch, "LIMIT", 1.0)
    monkeypatch.setattr(watch, "LOOK", 0.1)
    monkeypatch.setattr(watch, "WATCH", made := watch.Watch(said.append))
    monkeypatch.setattr(runtime, "WATCH", made)
    with pytest.raises(ModelError, match="did not end"):
        runtime.run(runtime.session(endless(), threads=1), {"x": np.zeros(1, np.float32)})
    assert len(said) == 1


def test_files_are_utf8_whatever_the_locale() -> None:
    """Every text file is opened with its encoding named."""
    package = Path(hybridq.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in ("read_text", "write_text"):
                assert any(k.arg == "encoding" for k in node.keywords), f"{path.name}:{node.lineno}"
