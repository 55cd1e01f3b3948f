"""Wrong input at the command line: exit code 1, what is wrong and where, nothing written, no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_cli import CFG, RANDOM, Done, Run, edit, snapshot

if sys.platform != "win32":
    pass


def truncated(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def npy(values: np.ndarray[Any, Any], name: str = "sample.npy") -> None:
    np.save(name, values)
    Path("bad.txt").write_text(f"# a comment\n{name}\n")


def missing_file() -> None:
    Path("bad.txt").write_text("0.png\nnone.png\n")


def broken_picture() -> None:
    Path("broken.png").write_bytes(Path("0.png").read_bytes()[:60])
    Path("bad.txt").write_text("0.png\nbroken.png\n")


def text_picture() -> None:
    Path("text.jpg").write_text("no picture")
    Path("bad.txt").write_text("text.jpg\n")


DATASETS: dict[str, tuple[Callable[[], object], str]] = {
    "absent": (lambda: None, "bad.txt"),
    "empty": (lambda: Path("bad.txt").write_text(""), "bad.txt"),
    "comments": (lambda: Path("bad.txt").write_text("# nothing\n\n"), "bad.txt"),
    "missing file": (missing_file, "bad.txt:2"),
    "broken picture": (broken_picture, "bad.txt:2"),
    "text as picture": (text_picture, "bad.txt:1"),
    "too many columns": (lambda: Path("bad.txt").write_text("0.png 1.png\n"), "bad.txt:1"),
    "wrong size": (lambda: npy(np.zeros((1, 3, 8, 9), np.float32)), "bad.txt:2"),
    "wrong axes": (lambda: npy(np.zeros((8, 8, 3), np.float32)), "bad.txt:2"),
    "not a number": (lambda: npy(np.full((1, 3, 8, 8), np.nan, np.float32)), "sample.npy"),
    "objects": (lambda: npy(np.array([{}], dtype=object)), "bad.txt:2"),
    "binary": (lambda: Path("bad.txt").write_bytes(bytes(range(256))), "bad.txt"),
}
LISTS: dict[str, tuple[bytes, int]] = {
    "Windows line ends": (b"0.png\r\n\r\n# a comment\r\n1.png\r\n", 2),
    "byte order mark": (b"\xef\xbb\xbf0.png\r\n1.png", 2),
    "quotes": ("\"a b.png\"\r\n'ü ö.png'\n0.png # a comment\n".encode(), 3),
    "no end of line": (b"  0.png\t\n\n1.png", 2),
}
BAD_LISTS: dict[str, tuple[bytes, str]] = {
    "missing": (
        b"0.png\r\nnone.png\r\n",
        "list.txt:2: 'none.png' does not exist\n  Paths are relative to the list's folder; looked for none.png.\n",
    ),
    "missing behind a mark": (
        b'\xef\xbb\xbf"no ne.png"\n',
        "list.txt:1: 'no ne.png' does not exist\n  Paths are relative to the list's folder; looked for no ne.png.\n",
    ),
    "spaces without quotes": (
        b"0.png\na b.png\n",
        'list.txt:2: 2 columns, but the model has 1 input\n  The path holds spaces: put it in quotes, "a b.png".\n',
    ),
    "an open quote": (
        b'0.png\n"a b.png\n',
        'list.txt:2: a quote is not closed, or text touches it: "a b.png\n',
    ),
    "Latin-1": ("0.png\nü.png\n".encode("latin-1"), "list.txt:2: is no UTF-8 text\n  Save the list as UTF-8.\n"),
}


class TestLists:
    """Lists as other systems and editors write them."""

    @pytest.fixture
    def pictures(self, folder: Path) -> None:
        shutil.copy("2.png", "a b.png")
        shutil.copy("3.png", "ü ö.png")

    @pytest.mark.usefixtures("pictures")
    @pytest.mark.parametrize("kind", LISTS)
    def test_these_work(self, run: Run, kind: str) -> None:
        data, samples = LISTS[kind]
        Path("list.txt").write_bytes(data)
        assert run("step1", "small.onnx", "--dataset", "list.txt", "-o", "new", "--json").json["samples"] == samples

    @pytest.mark.usefixtures("pictures")
    @pytest.mark.parametrize("kind", BAD_LISTS)
    def test_these_are_told(self, run: Run, kind: str) -> None:
        data, says = BAD_LISTS[kind]
        Path("list.txt").write_bytes(data)
        done = run("step1", "small.onnx", "--dataset", "list.txt", "-o", "new")
        assert (done.code, done.out) == (1, "")
        assert done.err == f"{says}1 problem found; nothing was written.\n"
        assert not Path("new").exists()


def bad_model(kind: str) -> Path:
    """``bad.onnx`` in the current folder."""
    bad = Path("bad.onnx")
    if kind == "text":
        bad.write_text("this is no model\n")
    elif kind == "truncated":
        shutil.copy("small.onnx", bad)
        truncated(bad)
    elif kind == "empty":
        bad.touch()
    elif kind == "folder":
        bad.mkdir()
    elif kind == "garbage":
        bad.write_bytes(RANDOM.bytes(3000))
    elif kind == "cut off weights":
        onnx.save(onnx.load("small.onnx"), bad, save_as_external_data=True, location="w.bin", size_threshold=0)
        Path("w.bin").unlink()
    return bad


NO_WEIGHTS = """\
bad.onnx: its weights lie in another file, which is missing: w.bin
  Put w.bin into the model's folder, or export the model with its weights inside.
"""


class TestWrongInput:
    """Exit code 1, a located message, no traceback, nothing written."""

    @staticmethod
    def refused(run: Run, folder: Path, *words: object, says: str) -> Done:
        before = snapshot(folder)
        done = run(*words)
        assert done.code == 1, done.out + done.err
        assert says in done.err
        assert "problem" in done.err.splitlines()[-1]
        assert "Traceback" not in done.err + done.out
        assert snapshot(folder) == before
        return done

    @pytest.mark.parametrize("out", ["build", "fresh"])
    @pytest.mark.parametrize("kind", ["absent", "text", "truncated", "empty", "folder", "cut off weights", "garbage"])
    def test_models(self, run: Run, folder: Path, kind: str, out: str) -> None:
        bad = bad_model(kind)
        done = self.refused(run, folder, "step1", bad, "--dataset", "dataset.txt", "-o", out, says="bad.onnx")
        assert len(done.err.splitlines()) < 8
        assert (folder / out).exists() == (out == "build")

    @pytest.mark.parametrize(
        ("kind", "says"),
        [
            ("absent", "bad.onnx: no such file\n"),
            ("empty", "bad.onnx: not an ONNX model: the file is empty\n  Copy or export it again.\n"),
            ("folder", "bad.onnx: this is a folder; give an .onnx file\n"),
            ("cut off weights", NO_WEIGHTS),
        ],
    )
    @pytest.mark.parametrize("command", ["step1", "auto"])
    def test_what_is_said_of_models(self, run: Run, folder: Path, command: str, kind: str, says: str) -> None:
        bad = bad_model(kind)
        done = run(command, bad, "--dataset", "dataset.txt", "-o", "fresh")
        end = "." if command == "auto" else "; nothing was written."
        assert (done.code, done.out, done.err) == (1, "", f"{says}1 problem found{end}\n")
        assert not Path("fresh").exists()

    def test_a_folder_to_import(self, run: Run, folder: Path) -> None:
        self.refused(run, folder, "import", "build", "build", says="build: this is a folder; give the file inside")

    @pytest.mark.parametrize("kind", DATASETS)
    def test_datasets(self, run: Run, folder: Path, kind: str) -> None:
        make, place = DATASETS[kind]
        make()
        self.refused(run, folder, "step1", "small.onnx", "--dataset", "bad.txt", "-o", "build", says=place)
        if kind != "not a number":  # a model may well be asked about NaN
            self.refused(run, folder, "step3", "build", "--dataset", "bad.txt", says=place)

    @pytest.mark.parametrize(
        ("layers", "says"),
        [
            ("{heda: float32}", "Did you mean head"),
            ("{head: int61}", "Did you mean int16"),
            ("{head: float32", "cfg:"),
            ("[head]", "cfg:"),
            ("{head: float32, head: int16}", "cfg:"),
        ],
    )
    @pytest.mark.parametrize("command", ["check", "step2", "step3", "list", "diff"])
    def test_typos_in_the_cfg(self, run: Run, folder: Path, command: str, layers: str, says: str) -> None:
        edit(folder, layers)
        done = self.refused(run, folder, command, "build", says=says)
        line = 1 + (folder / "build" / CFG).read_text().split("customized_quantize_layers:")[0].count("\n")
        assert f"{CFG}:{line}:" in done.err

    @pytest.mark.parametrize("command", ["check", "step2", "step3", "list", "diff", "set", "unset"])
    @pytest.mark.parametrize("where", ["nowhere", "empty"])
    def test_folders_without_step1(self, run: Run, folder: Path, command: str, where: str) -> None:
        (folder / "empty").mkdir()
        more = {"set": ["head", "float32"], "unset": ["head"]}.get(command, [])
        self.refused(run, folder, command, where, *more, says="step1")
        assert not (folder / "nowhere").exists()

    @pytest.mark.parametrize("name", ["model.json", "weights.data"])
    @pytest.mark.parametrize("damage", [truncated, Path.unlink, lambda p: p.write_bytes(b"\0" * p.stat().st_size)])
    def test_damaged_files_of_step1(self, run: Run, folder: Path, name: str, damage: Callable[[Path], object]) -> None:
        damage(folder / "build" / name)
        self.refused(run, folder, "step2", "build", says=name)

    def test_step3_before_step2(self, run: Run, folder: Path) -> None:
        (folder / "build" / "hybrid.onnx").unlink()
        self.refused(run, folder, "step3", "build", says="step2")

    def test_a_damaged_hybrid_model(self, run: Run, folder: Path) -> None:
        truncated(folder / "build" / "hybrid.onnx")
        self.refused(run, folder, "step3", "build", says="hybrid.onnx")

    @pytest.mark.parametrize(
        "metric", ["none.py:f", "score.py:other", "score.py", "score.py:fails", "score.py:text", "broken.py:f"]
    )
    def test_metrics(self, run: Run, folder: Path, metric: str) -> None:
        Path("score.py").write_text("def fails(outputs):\n    return 1 / 0\ndef text(outputs):\n    return 'good'\n")
        Path("broken.py").write_text("def f(:\n")
        before = {k: v for k, v in snapshot(folder).items() if "__pycache__" not in k}
        done = run("step3", "build", "--metric", metric)
        assert done.code == 1
        assert metric.split(":")[0] in done.err or metric.split(":")[1] in done.err
        assert {k: v for k, v in snapshot(folder).items() if "__pycache__" not in k} == before

    @pytest.mark.parametrize(
        ("option", "says"),
        [
            (["--outputs", "nothing"], "nothing"),
            (["--inputs", "nothing"], "nothing"),
            (["--mean", "1,2"], "mean"),
            (["--mean", "other=1", "--mean", "image=0"], "other"),
        ],
    )
    def test_options_that_do_not_fit(self, run: Run, folder: Path, option: list[str], says: str) -> None:
        self.refused(run, folder, "step1", "small.onnx", "--dataset", "dataset.txt", "-o", "build", *option, says=says)

    @pytest.mark.parametrize(
        ("option", "says"),
        [
            (["--mean", "a"], "mean 'a' is no list of numbers"),
            (["--std", "0"], "std is 0"),
            (["--target", "rknn2", "--dtype", "float32"], "Choose int8, int16 or float16"),
            (["--weights", "chanel"], "Did you mean channel?"),
            (["--force", "--merge"], "Give one of them"),
            (["--percentile", "99"], "percentile goes with algorithm percentile"),
            (["--data-free"], "data_free reads no dataset"),
            (["--weight-only", "int8", "--proposal"], "weight_only"),
            (["--outputs", ""], "outputs"),
        ],
    )
    def test_options_that_are_wrong_in_themselves(self, run: Run, folder: Path, option: list[str], says: str) -> None:
        before = snapshot(folder)
        done = run("step1", "small.onnx", "--dataset", "dataset.txt", "-o", "build", *option)
        assert (done.code, snapshot(folder)) == (2, before)
        assert says in done.err

    def test_several_means_without_names(self, run: Run, folder: Path) -> None:
        before = snapshot(folder)
        done = run("step1", "small.onnx", "--dataset", "dataset.txt", "-o", "build", "--mean", "1", "--mean", "2")
        assert done.code == 2
        assert snapshot(folder) == before

    @pytest.mark.parametrize(
        ("selector", "precision"), [("none", "float32"), ("re:(", "int16"), ("head", "int61"), ("op:Cnov", "int8")]
    )
    def test_selectors(self, run: Run, folder: Path, selector: str, precision: str) -> None:
        says = precision if precision == "int61" else selector.removeprefix("re:").removeprefix("op:")
        self.refused(run, folder, "set", "build", selector, precision, says=says)

    def test_a_file_where_a_folder_should_be(self, run: Run, folder: Path) -> None:
        done = run("step1", "small.onnx", "--dataset", "dataset.txt", "-o", "0.png")
        assert done.code in (1, 2)
        assert "0.png" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a shell's behaviour")
class TestAsAProcess:
    """What only a process of its own shows."""

    @staticmethod
    def process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        code = "from hybridq.cli import main; main()"
        environment = {**os.environ, "COLUMNS": "120"}
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    def test_step2_says_nothing_on_stderr(self, folder: Path) -> None:
        done = self.process(folder, "step2", "build")
        assert (done.returncode, done.stderr) == (0, "")

    def test_wrong_input_shows_no_traceback(self, folder: Path) -> None:
        edit(folder, "{head: int61}")
        done = self.process(folder, "step2", "build")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "1 problem found; nothing was written."
        assert "Traceback" not in done.stderr
        assert not done.stdout

    def test_a_closed_pipe_is_no_traceback(self, folder: Path) -> None:
        script = f'"{sys.executable}" -c "from hybridq.cli import main; main()" list build | head -n 1'
        done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
