"""Options are types: what does not exist is refused from Python as from the command line, which say the same words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
import pytest

import hybridq
from hybridq.cli import main
from hybridq.dataset import Preprocessing
from hybridq.errors import HybridqError, OptionError
from hybridq.quant.dtypes import Precision
from hybridq.search.budget import Budget
from hybridq.steps.options.proposal import ProposalOptions
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.options.validation import Flag, Number, OneWord, Option, SeveralNames, asked

# a keyword of Python, and folders of the package
NAMES = {"import": "import_cfg", "demo": "run_demo", "compare": "compare_models"}
PRINTING = {"quiet", "verbose", "as_json", "github", "help", "opened"}
PARTS = {"step1": ("step1", "propose")}  # --proposal is a call of its own
RENAMED = {"set": {"param": "params"}}


def function_of(command: str) -> Any:
    return getattr(hybridq, NAMES.get(command, command))


def parameters(command: str) -> dict[str, inspect.Parameter]:
    found: dict[str, inspect.Parameter] = {}
    for name in PARTS.get(command, (command,)):
        found.update(inspect.signature(function_of(name)).parameters)
    return found


def unsaid(command: str) -> dict[str, Any]:
    """What a command is given where a person says only what must be said."""
    found = main.commands[command]
    words: list[str] = []
    for param in found.params:
        if param.required:
            words += param.opts[-1:] * isinstance(param, click.Option)
            words += [param.type.choices[0] if isinstance(param.type, click.Choice) else "x"]
    parent = click.Context(main, info_name="hybridq", **main.context_settings)
    return found.make_context(command, words, parent=parent).params


def options() -> Iterator[tuple[str, click.Parameter]]:
    for command in main.commands.values():
        for param in command.params:
            if param.name not in PRINTING | {"proposal"}:
                yield command.name or "", param


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_a_function(name: str) -> None:
    found = function_of(name)
    assert callable(found)
    assert found.__doc__
    assert NAMES.get(name, name) in hybridq.__all__


@pytest.mark.parametrize(("command", "param"), list(options()), ids=lambda x: x if isinstance(x, str) else x.name)
def test_every_option_is_an_argument_with_the_same_default(command: str, param: click.Parameter) -> None:
    known = parameters(command)
    name = RENAMED.get(command, {}).get(param.name or "", param.name)
    assert name in known
    default = known[str(name)].default
    if param.multiple:
        assert default in (None, ())
    elif default is inspect.Parameter.empty:
        assert param.required or name == "dataset"  # none with --data-free, for which Python takes None
    else:
        told = unsaid(command)[str(param.name)]
        assert (str(told) if isinstance(told, Path) else told) == default or (told, default) == (None, ())


def test_what_the_package_exports_is_there() -> None:
    for name in hybridq.__all__:
        assert getattr(hybridq, name) is not None
    with pytest.raises(AttributeError, match="step4711"):
        hybridq.step4711  # noqa: B018


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"weights": "chanel"}, "Choose layer or channel. Did you mean channel?"),
    ({"algorithm": "kl"}, "kl_divergence"),
    ({"algorithm": "kl_divergenze"}, "Did you mean kl_divergence?"),
    ({"weights_algorithm": "mse"}, "Did you mean mmse?"),
    ({"weights_repair": "equalise"}, "Did you mean equalize?"),
    ({"inputs": "image"}, "Write inputs=['image']"),
    ({"outputs": [1]}, "outputs is a list of names"),
    ({"inputs": 3}, "inputs is a list of names, not 3"),
    ({"force": True, "merge": True}, "Give one of them"),
    ({"force": "yes"}, "force is True or False, not 'yes'"),
    ({"threads": -1}, "threads is a whole number 0 or more, not -1"),
    ({"threads": 1.5}, "threads is a whole number, not 1.5"),
    ({"threads": True}, "threads is a whole number, not True"),
    ({"workers": 0}, "workers is a whole number 1 or more, not 0"),
    ({"samples": 0}, "samples is a whole number 1 or more, not 0"),
    ({"batch": None}, "batch is a whole number, not None"),
    ({"dtype": "uint16"}, "Did you mean"),
    ({"dtype": "float32", "target": "rknn2"}, "Choose int8, int16 or float16."),
    ({"target": "rknn"}, "Did you mean rknn"),
    ({"resize": "letterboxed"}, "Did you mean letterbox?"),
    ({"channel_order": "rbg"}, "Choose rgb or bgr"),
    ({"std": 0}, "std is 0"),
    ({"mean": "a"}, "no list of numbers"),
    ({"percentile": 99.9}, "percentile goes with algorithm percentile, not"),
    ({"percentile": 100.5, "algorithm": "percentile"}, "above 50 up to 100"),
    ({"momentum": 0.5}, "momentum goes with algorithm moving_average"),
    ({"algorithm": "kl"}, "Did you mean kl_divergence?"),
    ({"minimum_range": float("nan")}, "minimum_range is a number"),
    ({"preprocessing": Preprocessing.of(1), "mean": 2}, "Give one of the two"),
    ({"weight_only": "uint8"}, "Choose int8 or int16."),
    ({"weight_only": "int8", "dtype": "uint8"}, "computes in float32"),
    ({"weight_only": "int8", "target": "rknn2"}, "has no float32"),
    ({"weight_only": "int8", "merge": True}, "merge keeps the old ones"),
    ({"data_free": True, "algorithm": "mmse"}, "algorithm is for samples"),
    ({"data_free": True, "weights_repair": "gptq"}, "measures on samples"),
    ({"data_free": True, "every_algorithm": True}, "leaves a search nothing"),
]


@pytest.mark.parametrize(("given", "says"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_a_wrong_option_is_refused_with_a_remedy(given: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError) as caught:
        Step1Options(**given)
    assert says in str(caught.value)


def test_the_step_itself_refuses_them_before_it_reads_the_model(tmp_path: Path) -> None:
    with pytest.raises(HybridqError, match="Did you mean channel"):
        hybridq.step1("absent.onnx", "absent.txt", tmp_path / "new", weights="chanel")
    with pytest.raises(HybridqError, match="Did you mean weights_repair"):
        hybridq.step1("absent.onnx", "absent.txt", tmp_path / "new", weight_repair="gptq")
    with pytest.raises(HybridqError, match="a dataset is missing"):
        hybridq.step1("absent.onnx", None, tmp_path / "new")
    with pytest.raises(HybridqError, match="weight_only"):
        hybridq.auto("absent.onnx", "absent.txt", tmp_path / "new", weight_only="int8")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("step", "given", "says"),
    [
        ("step2", {"threads": -1}, "threads is a whole number 0 or more"),
        ("step3", {"threads": 1.5}, "threads is a whole number"),
        ("step3", {"samples": 0}, "samples is a whole number 1 or more"),
        ("step3", {"layer_samples": -1}, "layer_samples is a whole number 0 or more"),
        ("step3", {"seconds": -1}, "seconds is a number 0 or more"),
        ("propose", {"workers": 0}, "workers is a whole number 1 or more"),
        ("propose", {"max_high": 15}, "max_high is a number from 0 up to 1, not 15"),
        ("propose", {"min_sqnr": "worst:x"}, "Give a number of dB, or worst:DB"),
        ("propose", {"min_sqnr": ["30", "worst:nan"]}, "Give a number of dB"),
        ("propose", {"max_drop": 0.1}, "max_drop needs a metric"),
        ("propose", {"min_speedup": 0}, "min_speedup is a number above 0"),
        ("propose", {"precisions": "uint8"}, "Write precisions=['uint8']"),
        ("propose", {"precisions": ["uint88"]}, "Did you mean uint8?"),
        ("propose", {"metrics": "a.py:b"}, "Did you mean metric?"),
    ],
)
def test_the_other_steps_refuse_them_too(tmp_path: Path, step: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError) as caught:
        getattr(hybridq, step)(tmp_path / "absent", **given)
    assert says in str(caught.value)


def test_a_budget_of_two_sqnrs() -> None:
    budget = ProposalOptions(min_sqnr=["30", "worst:20.5"]).budget
    assert (budget.min_sqnr, budget.min_worst_sqnr) == (30.0, 20.5)
    assert ProposalOptions(min_sqnr=25).budget == Budget(min_sqnr=25.0)
    assert ProposalOptions().budget == Budget()


def test_words_become_members_of_their_enums() -> None:
    made = Step1Options(weights="layer", dtype="int16", inputs=["a"])
    assert made.inputs == ("a",)
    for one in asked(Step1Options):
        if isinstance(one.kind, OneWord) and getattr(made, one.name) is not None:
            assert isinstance(getattr(made, one.name), one.kind.enum)
    assert made.default is Precision.INT16


def cases(one: Option) -> Iterator[tuple[Any, bool]]:
    """Values of an option, each with whether it is one."""
    match one.kind:
        case OneWord(enum=enum):
            yield from ((str(word), str(word) in one.kind.words) for word in enum)
            yield "no word", False
        case Number(low=low, high=high, above=above):
            yield from ((low - 1, False), (low, not above), (high + 1, high == float("inf")))
        case Flag():
            yield from ((True, True), (1, False), ("no", False))
        case SeveralNames():
            yield from ((("a", "b"), True), ("ab", False), ((1,), False))


@pytest.mark.parametrize("one", asked(Step1Options), ids=lambda one: one.name)
def test_each_kind_takes_its_values_and_no_other(one: Option) -> None:
    for value, right in cases(one):
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            continue
        if right:
            assert one.kind.checked(value, one.name) == value
        else:
            with pytest.raises(OptionError, match=one.name):
                one.kind.checked(value, one.name)


def test_defaults_are_words_of_their_kind() -> None:
    for one in asked(Step1Options):
        if one.default is not None:
            assert one.kind.checked(one.default, one.name) == one.default
        if isinstance(one.kind, OneWord) and one.default is not None:
            assert isinstance(one.default, StrEnum)
