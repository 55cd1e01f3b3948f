"""The command line on a small model: exit codes, messages, JSON; wrong input changes no file and shows no traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from helpers_cli import CFG, RANDOM, Done, Run, edit, small_model, snapshot
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import hybridq
from hybridq import steps
from hybridq.cli import main, options
from hybridq.cli.budget import headline, missed
from hybridq.files import commit as files_commit
from hybridq.graph import runtime
from hybridq.search.joint import Figures
from hybridq.search.search import Budget, SearchResult
from hybridq.steps import editing

if sys.platform != "win32":
    import fcntl


class TestHelp:
    @pytest.mark.parametrize("name", sorted(main.commands))
    def test_every_command_explains_itself(self, run: Run, name: str) -> None:
        done = run(name, "--help")
        assert done.code == 0
        assert f"hybridq {name} " in done.out.split("Options:")[0].split("\n\n", 1)[1], "an example"
        assert "Options:" in done.out
        assert run(name, "-h").out == done.out

    def test_all_commands_are_listed(self, run: Run) -> None:
        done = run("--help")
        assert all(f"\n  {name} " in done.out for name in main.commands)

    def test_version(self, run: Run) -> None:
        assert run("--version").out.startswith("hybridq, version 0.")

    @pytest.mark.parametrize(
        "words",
        [
            ["step9"],
            ["step1", "small.onnx"],
            ["step1", "small.onnx", "--dataset", "dataset.txt", "-o", "new", "--algorithm", "best"],
            ["step1", "small.onnx", "--dataset", "dataset.txt", "-o", "new", "--samples", "0"],
            ["step2"],
            ["step2", "build", "--no-such-option"],
            ["set", "build", "relu"],
            ["set", "build", "relu", "--param", "min"],
        ],
    )
    def test_wrong_commands_end_with_2(self, run: Run, folder: Path, words: list[str]) -> None:
        before = snapshot(folder)
        done = run(*words)
        assert done.code == 2
        assert done.err
        assert not done.out
        assert snapshot(folder) == before


class TestSteps:
    def test_the_three_steps(self, run: Run, folder: Path) -> None:
        done = run("step1", "small.onnx", "--dataset", "dataset.txt", "-o", "fresh", "--std", "255")
        assert done.code == 0
        assert "8 samples" in done.out
        assert {p.name for p in Path("fresh").iterdir()} >= {"model.json", "weights.data", CFG}
        done = run("step2", "fresh")
        assert done.code == 0
        assert "hybrid.onnx" in done.out
        done = run("step3", "fresh")
        assert done.code == 0
        assert "calibration set" in done.out
        assert {p.name for p in Path("fresh/report").iterdir()} >= {"index.html", "report.json", "layers.csv"}

    def test_other_data_and_a_metric(self, run: Run, folder: Path) -> None:
        Path("score.py").write_text("def first(outputs):\n    return float(sum(o['scores'].max() for o in outputs))\n")
        done = run("step3", "build", "--dataset", "dataset.txt", "--metric", "score.py:first")
        assert done.code == 0
        assert "calibration set" not in done.out
        assert "first" in done.out

    def test_the_metric_of_the_documentation(self, run: Run, folder: Path) -> None:
        """The example of docs/cli.md is run as it stands there."""
        page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
        (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
        Path("score.py").write_text(example)
        session = runtime.session("small.onnx")
        feeds = [np.asarray(Image.open(f"{i}.png"), np.float32).transpose(2, 0, 1)[None] / 255 for i in range(8)]
        labels = [str(runtime.run(session, {"image": f})[0].argmax()) for f in feeds]
        Path("labels.txt").write_text("\n".join(labels))
        done = run("step3", "build", "--metric", "score.py:accuracy", "--json")
        assert done.code == 0
        assert done.json["metric"]["float_value"] == 1.0
        assert "higher is better" in run("step3", "--help").out

    def test_another_place_for_the_model(self, run: Run, folder: Path) -> None:
        before = snapshot(folder / "build")
        assert run("step2", "build", "-o", "elsewhere/mixed.onnx").code == 0
        onnx.checker.check_model("elsewhere/mixed.onnx", full_check=True)
        assert snapshot(folder / "build") == before

    def test_an_edited_cfg_is_not_overwritten(self, run: Run, folder: Path) -> None:
        edit(folder, "{head: float32}")
        before = snapshot(folder)
        again = ("step1", "small.onnx", "--dataset", "dataset.txt", "-o", "build", "--std", "255")
        done = run(*again)
        assert done.code == 1
        assert "--force" in done.err
        assert "--merge" in done.err
        assert snapshot(folder) == before
        assert run(*again, "--merge").code == 0
        assert '"head": float32' in (folder / "build" / CFG).read_text(encoding="utf-8")
        assert run(*again, "--force").code == 0
        assert "\ncustomized_quantize_layers: {}\n" in (folder / "build" / CFG).read_text(encoding="utf-8")

    def test_step1_makes_older_results_void(self, run: Run, folder: Path) -> None:
        again = ("step1", "small.onnx", "--dataset", "dataset.txt", "-o", "build", "--std", "200", "--force")
        assert run(*again).code == 0
        assert not {"hybrid.onnx", "build.json", "report"} & {p.name for p in (folder / "build").iterdir()}

    def test_editing_by_command(self, run: Run, folder: Path) -> None:
        untouched = (folder / "build" / CFG).read_bytes()
        assert run("set", "build", "op:MatMul", "float32").code == 0
        assert "float32" in run("diff", "build").out
        rows = {row["name"]: row for row in run("list", "build", "--json").json}
        assert {"name", "op", "precision", "macs"} <= set(next(iter(rows.values())))
        assert "float32" in {row["precision"] for row in rows.values()}
        assert run("unset", "build", "op:MatMul").code == 0
        assert "nothing is edited" in run("diff", "build").out
        assert (folder / "build" / CFG).read_bytes() == untouched


class TestLog:
    def test_a_line_every_so_many_seconds_and_none_after_the_end(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(options, "LOG_SECONDS", 0.02)
        voice = options.Talk()
        voice.progress("counting", 1, 3)
        time.sleep(0.2)
        voice.progress("counting", 2, 3)
        time.sleep(0.2)
        voice.done()
        said = capsys.readouterr().err.splitlines()
        assert {line.split(": ", 1)[1] for line in said} == {"counting, 1 of 3", "counting, 2 of 3"}
        time.sleep(0.1)
        assert capsys.readouterr().err == ""


class TestBudgets:
    """A budget that cannot be held: everything is written, the flag and the best figure are told, exit code 1."""

    WORDS = ("small.onnx", "--dataset", "dataset.txt", "-o", "new", "--std", "255", "--dtype", "uint8")

    def test_auto(self, run: Run, folder: Path) -> None:
        done = run("auto", *self.WORDS, "--min-sqnr", "90", "--max-high", "0.01", "--json")
        assert done.code == 1
        best = min(done.json["chosen"]["sqnr_db"].values())
        assert done.err.splitlines()[-2:] == [
            f"--min-sqnr 90: not reachable, best {best:.1f} dB within --max-high 0.01",
            "the budget is not held; the best choice that was found is written all the same",
        ]
        assert done.json["feasible"] is False
        assert {"search.json", "hybrid.onnx", "report"} < {p.name for p in Path("new").iterdir()}

    def test_a_proposal(self, run: Run, folder: Path) -> None:
        done = run("step1", *self.WORDS, "--proposal", "--min-sqnr", "90", "--max-high", "0", "--quiet")
        assert done.code == 1
        assert done.err.startswith("--min-sqnr 90: not reachable, best ")
        assert Path("new/search.json").exists()
        assert run("step2", "new").code == 0

    def test_one_that_holds(self, run: Run, folder: Path) -> None:
        done = run("auto", *self.WORDS, "--min-sqnr", "90", "--json")
        assert (done.code, done.json["feasible"]) == (0, True)
        assert "not reachable" not in done.err

    def test_time_ends_a_search_with_the_best_found(self, run: Run, folder: Path) -> None:
        done = run("auto", *self.WORDS, "--time", "0.001", "--json")
        assert (done.code, done.json["budget"]) == (0, {"time": 0.001})
        assert Path("new/hybrid.onnx").exists()
        whole = run("auto", *self.WORDS, "--time", "600", "--force", "--json")
        assert (whole.code, whole.json["budget"]) == (0, {"time": 600})
        assert len(done.json["measured"]) < len(whole.json["measured"])
        assert whole.json["chosen"]["damage"] <= done.json["chosen"]["damage"]
        wrong = run("auto", *self.WORDS, "--time", "0", "--force")
        assert wrong.code != 0
        assert "time" in wrong.err

    def test_a_search_that_gains_nothing_says_so_first(self, run: Run, folder: Path) -> None:
        for command in (("auto", *self.WORDS), ("step1", *self.WORDS, "--proposal", "--force")):
            done = run(*command, "--max-high", "0")
            assert done.code == 0
            assert done.out.splitlines()[0] == "no layer gets more bits: none helps within the budget"

    @pytest.mark.parametrize(("alone", "says"), [([], "time was over"), ([{}], "none helps")])
    def test_a_search_that_had_no_time_does_not_say_that_nothing_helps(self, alone: list[Any], says: str) -> None:
        found = SimpleNamespace(layers={}, content={"budget": {"time": 90.0}, "alone": alone})
        assert says in headline(cast(SearchResult, found))

    def test_flags_without_a_search(self, run: Run, folder: Path) -> None:
        done = run("step1", *self.WORDS, "--min-sqnr", "90")
        assert done.code == 2
        assert "--min-sqnr is for a search: add --proposal." in done.err
        assert not Path("new").exists()

    @pytest.mark.parametrize(
        ("limits", "says"),
        [
            ({"min_sqnr": 60}, ["--min-sqnr 60: not reachable, best 41.2 dB"]),
            ({"min_worst_sqnr": 20}, ["--min-sqnr worst:20: not reachable, best 7.5 dB"]),
            ({"min_speedup": 3}, ["--min-speedup 3: not reachable, best 1.50 times float32"]),
            ({}, []),  # no budget was given
            ({"max_high": 0.15}, ["--max-high 0.15: not reachable, best 25.0% of the MACs"]),
            ({"max_drop": 0.01}, ["--max-drop 0.01: not reachable, best metric 0.5"]),
            (
                {"min_sqnr": 60, "min_speedup": 3, "max_high": 0.1},
                [
                    "--min-sqnr 60: not reachable, best 41.2 dB within --max-high 0.1",
                    "--min-speedup 3: not reachable, best 1.50 times float32 within --max-high 0.1",
                    "--max-high 0.1: not reachable, best 25.0% of the MACs",
                ],
            ),
            (
                {"min_sqnr": 30, "min_speedup": 1.2},
                [
                    "--min-sqnr 30 --min-speedup 1.2: not reachable, each by itself holds, all together do not",
                ],
            ),
        ],
    )
    def test_each_flag_is_named(self, limits: dict[str, float], says: list[str]) -> None:
        figures = Figures(1.0, 0.25, {"y": 50.0, "z": 41.23}, {"y": 20.0, "z": 7.5}, 0.5)
        found = SearchResult(False, {}, {}, {}, {}, {}, figures, {"times": {"speedups": {"a": 1.2, "b": 1.5}}})
        assert [str(p) for p in missed(found, Budget(**limits))] == says
        assert missed(replace(found, feasible=True), Budget(**limits)) == []


class TestFiles:
    @pytest.mark.parametrize(
        ("file", "schema"), [("model.json", "model-2"), ("build.json", "build-1"), ("report/report.json", "report-1")]
    )
    def test_what_is_written_is_valid(self, folder: Path, file: str, schema: str) -> None:
        rules = json.loads((Path(hybridq.__file__).parent / f"schemas/{schema}.schema.json").read_text())
        Draft202012Validator(rules).validate(json.loads((folder / "build" / file).read_text()))

    def test_libraries_of_the_tests_are_not_needed(self, folder: Path) -> None:
        blocked = "import sys; sys.modules.update(dict.fromkeys(['ruamel', 'ruamel.yaml']));"
        code = blocked + "from hybridq.cli import main; main()"
        for words in (["check", "build"], ["set", "build", "head", "float32"], ["step2", "build"]):
            subprocess.run([sys.executable, "-c", code, *words], cwd=folder, check=True, capture_output=True)


class TestHalfModels:
    """A model given in float16 goes the whole way, and gains what a float32 model gains."""

    @staticmethod
    def half(folder: Path) -> None:
        model = small_model()
        for tensor in model.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        onnx.save(model, folder / "half.onnx")

    def test_end_to_end(self, run: Run, folder: Path) -> None:
        self.half(folder)
        words = ("--dataset", "dataset.txt", "-o", "half", "--std", "255", "--dtype", "uint8")
        done = run("step1", "half.onnx", *words)
        assert done.code == 0
        assert "half.onnx: given in float16; float32 takes its place" in done.err
        built = run("step2", "half", "--json").json
        assert built["counts"]["uint8"] == 4
        hybrid = onnx.load("half/hybrid.onnx")
        ends = (*hybrid.graph.input, *hybrid.graph.output)
        assert [v.name for v in ends] == ["image", "scores"]
        assert {v.type.tensor_type.elem_type for v in ends} == {TensorProto.FLOAT16}
        (output,) = run("step3", "half", "--json").json["outputs"]
        assert output["figures"]["sqnr_db"] > 25
        feed = {"image": np.asarray(Image.open("0.png"), np.float16).transpose(2, 0, 1)[None] / np.float16(255)}
        given, found = (runtime.run(runtime.session(p), feed)[0] for p in ("half.onnx", "half/hybrid.onnx"))
        assert given.dtype == found.dtype == np.float16
        assert np.abs(given - found).max() < 0.05
        assert run("set", "half", "head", "float32").code == 0
        assert run("step2", "half", "--json").json["counts"]["float32"] == 1


ODD = (
    "conv(1)",
    "p[bold]",
    "a and (b)",
    "op:x",
    "re:(",
    "from:a..to:b",
    "x*",
    "not y",
    "*",
    "[/red]",
    "-1",
    "ü ' \"",
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of Sigmoids, one of each name."""
    folder = tmp_path_factory.mktemp("names")
    chain = zip(("image", *ODD), ODD, strict=False)
    nodes = [helper.make_node("Sigmoid", [a], [b], name=f"node {b}") for a, b in chain]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("image", ODD[-1])]
    graph = helper.make_graph(nodes, "names", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "names.onnx")
    steps.step1(folder / "names.onnx", [{"image": np.ones((1, 4), np.float32)}], folder / "build", dtype="uint8")
    return folder / "build"


class TestNames:
    """Names that look like something else are names first, on the command line and in every table."""

    @pytest.mark.parametrize("name", ODD)
    def test_every_name_is_a_selector(self, run: Run, odd: Path, name: str) -> None:
        before = (odd / CFG).read_bytes()
        done = run("set", odd, "--", name, "int16")
        assert done.code == 0
        assert f" {name} " in done.out, "the table shows it as it is"
        assert [(e["key"], e["after"]) for e in run("diff", odd, "--json").json] == [(name, "int16")]
        assert f" {name} " in run("list", odd).out
        built = run("step2", odd)
        assert built.code == 0
        assert f" {name} " in built.out
        assert run("unset", odd, "--", name).code == 0
        assert (odd / CFG).read_bytes() == before


class TestJson:
    @pytest.mark.parametrize(
        ("words", "keys"),
        [
            (["step1", "small.onnx", "--dataset", "dataset.txt", "-o", "n"], {"directory", "samples", "layers"}),
            (["step2", "build"], {"path", "counts", "high_fraction"}),
            (["step3", "build"], {"format", "outputs", "layers", "sizes", "timing"}),
        ],
    )
    def test_stdout_is_json_alone(self, run: Run, folder: Path, words: list[str], keys: set[str]) -> None:
        done = run(*words, "--json")
        assert done.code == 0
        assert keys <= set(done.json)

    @pytest.mark.parametrize("words", [["check", "build"], ["list", "build"], ["diff", "build"]])
    def test_lists(self, run: Run, folder: Path, words: list[str]) -> None:
        assert isinstance(run(*words, "--json").json, list)

    def test_problems_are_json_too(self, run: Run, folder: Path) -> None:
        edit(folder, "{head: int61}")
        for words in (["check", "build"], ["step2", "build"], ["step3", "build"], ["list", "build"]):
            done = run(*words, "--json")
            assert done.code == 1
            (problem,) = done.json
            assert problem["severity"] == "error"
            assert "int61" in problem["message"]

    def test_a_layer_called_json_asks_for_nothing(self, run: Run, folder: Path) -> None:
        done = run("set", "build", "--", "--json", "int16")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("there is no layer or tensor '--json'")

    def test_what_is_taken_back_has_no_line(self, run: Run, folder: Path) -> None:
        (edit_,) = run("set", "build", "head", "int16", "--json").json
        assert edit_["line"] > 0
        run("set", "build", "head", "int16")
        (edit_,) = run("unset", "build", "head", "--json").json
        assert edit_["line"] is None
        run("set", "build", "head", "int16")
        (line,) = [x for x in run("unset", "build", "head").out.splitlines() if "logits" in x]
        assert [c.strip() for c in line.split("│")][1:3] == ["", "logits"]

    def test_sound_cfgs_have_no_annotation(self, run: Run, folder: Path) -> None:
        assert run("check", "build", "--github") == Done(0, "", "")

    @pytest.mark.parametrize("words", [["step2", "build"], ["step3", "build"], ["check", "build"], ["list", "build"]])
    def test_quiet_prints_nothing(self, run: Run, folder: Path, words: list[str]) -> None:
        done = run(*words, "--quiet")
        assert (done.code, done.out, done.err) == (0, "", "")


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


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
class TestAtTheSameTime:
    """Commands that edit one folder at once: each waits for the others, and no edit is lost."""

    def test_every_edit_gets_through(self, run: Run, folder: Path) -> None:
        names = [row["name"] for row in run("list", "build", "--json").json]
        code = "from hybridq.cli import main; main()"
        commands = [
            [sys.executable, "-c", code, "set", "build", n, "--param", f"max={i + 50}"] for i, n in enumerate(names)
        ]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        running = [subprocess.Popen(c, cwd=folder, **pipes) for c in commands]
        said = [p.communicate()[1] for p in running]
        assert [p.returncode for p in running] == [0] * len(names), said
        found = {e["key"]: e["after"] for e in run("diff", "build", "--json").json}
        assert found == {n: f"{i + 50}.0" for i, n in enumerate(names)}

    def test_edits_made_meanwhile_stay(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between reading and writing another command writes: the edit is made again, on top."""
        build, whole = folder / "build", editing.config.set_layers
        monkeypatch.setattr(editing.config, "set_layers", lambda *args: (other(), whole(*args))[1])

        def other() -> None:
            monkeypatch.setattr(editing.config, "set_layers", whole)
            editing.set_precision(build, "head", "int16")

        editing.set_precision(build, "relu", "float32")
        assert {e.key: e.after for e in editing.diff(build)} == {"relu": "float32", "logits": "int16"}

    @pytest.mark.parametrize("seconds", [0.3, None])
    def test_waits_and_then_says_so(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None
    ) -> None:
        monkeypatch.setattr(files_commit, "PATIENCE", 5.0 if seconds else 0.2)
        before = snapshot(folder)
        descriptor = os.open("build", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        Path("build/.hybridq-new").mkdir()  # as while step2 writes
        if seconds:
            Timer(seconds, os.close, [descriptor]).start()
            assert run("set", "build", "head", "int16").code == 0
            return
        for words in (["set", "build", "head", "int16"], ["list", "build"], ["diff", "build"]):
            done = run(*words)
            assert (done.code, done.out) == (1, "")
            assert done.err == (
                "build: another hybridq command is writing this folder, for 0.2 s now\n"
                "  Try again when it is done.\n1 problem found; nothing was written.\n"
            )
        os.close(descriptor)
        assert snapshot(folder) == before


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
