"""The command line on a small model: exit codes, messages, JSON; wrong input changes no file and shows no traceback."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_cli import CFG, Done, Run, edit, small_model, snapshot
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import hybridq
from hybridq import steps
from hybridq.cli import flags, main
from hybridq.graph import runtime

if sys.platform != "win32":
    pass


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
        assert "calibration set" in run("step3", "fresh", "--dataset", "./dataset.txt").out

    def test_step4_tells_what_it_wrote_a_folder_within_in_a_word(self, run: Run, folder: Path) -> None:
        assert run("step1", "small.onnx", "--dataset", "dataset.txt", "-o", "fresh", "--std", "255").code == 0
        done = run("step4", "fresh", "--to", "rknn2", "-o", "out")
        assert done.code == 0
        inside = [p for p in Path("out").rglob("*") if p.is_file() and p.parent != Path("out")]
        (place,) = {p.parent.name for p in inside}
        assert f"{len(inside)} files in {place}/)" in done.out
        assert not any(p.name in done.out for p in inside)
        assert done.out.splitlines()[-1] == "next: cd out && python convert.py --platform rk3588"

    def test_step4_tells_the_commands_that_use_what_it_wrote(self, run: Run, folder: Path) -> None:
        """Of a format of parameters alone the first writes the model that they belong to; it is run as it stands."""
        done = run("step4", "build", "--to", "mnn", "-o", "a table.json")
        first, second = done.out.splitlines()[-2:]
        assert second.startswith("then: mnnconvert ")
        assert second.endswith("--compressionParamsFile 'a table.json'")
        assert run(*shlex.split(first.removeprefix("next: hybridq "))).code == 0
        assert Path(shlex.split(second)[shlex.split(second).index("--modelFile") + 1]).exists()

    def test_other_data_and_a_metric(self, run: Run, folder: Path) -> None:
        Path("score.py").write_text("def first(outputs):\n    return float(sum(o['scores'].max() for o in outputs))\n")
        Path("others.txt").write_text("".join(Path("dataset.txt").read_text().splitlines(keepends=True)[:4]))
        done = run("step3", "build", "--dataset", "others.txt", "--metric", "score.py:first")
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
        monkeypatch.setattr(flags, "LOG_SECONDS", 0.02)
        voice = flags.Talk()
        voice.progress("counting", 1, 3)
        time.sleep(0.2)
        voice.progress("counting", 2, 3)
        time.sleep(0.2)
        voice.done()
        said = capsys.readouterr().err.splitlines()
        assert {line.split(": ", 1)[1] for line in said} == {"counting, 1 of 3", "counting, 2 of 3"}
        time.sleep(0.1)
        assert capsys.readouterr().err == ""

    def test_how_it_stands_begins_no_new_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else the time that is left would be guessed anew with every better choice."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        voice, tasks = flags.Talk(), []
        for said in ("measuring (best so far 20 dB)", "measuring (best so far 21 dB)", "comparing"):
            voice.progress(said, 1, 3)
            assert voice._bar is not None
            assert voice._bar.tasks[0].description == said
            tasks.append(voice._task)
        voice.done()
        assert tasks[0] == tasks[1] != tasks[2]


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
