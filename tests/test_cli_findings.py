"""What step1 prints of its findings: one paragraph a kind, and one line to copy that mends all of it."""

from pathlib import Path

import pytest

from hybridq.cli.findings import tell_findings
from hybridq.cli.flags import Talk
from hybridq.linting import Finding
from hybridq.quant.dtypes import Precision

BUILD = Path("build")


def note(layer: str, *beside: str, code: str = "coarse", severity: str = "note") -> Finding:
    """A finding that float32 mends."""
    names = (layer, *beside)
    return Finding(layer, code, f"'{layer}' is coarse", "float32", severity, names, Precision.FLOAT32)


SAMPLES = Finding("a", "unsettled", "ranges still grow", "more samples", "note")


def said(
    capsys: pytest.CaptureFixture[str], *found: Finding, searched: bool = False, verbose: bool = False
) -> list[str]:
    """The lines printed."""
    tell_findings(Talk(verbose=verbose), found, BUILD, searched=searched)
    return capsys.readouterr().out.splitlines()


def test_notes_of_one_kind_are_one_paragraph_and_its_line_sets_every_layer_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = said(capsys, note("a", "x"), note("b", "x"), note("c"))
    assert lines == [
        "note: 'a' is coarse",
        "  the same of 'b', 'c' (--verbose tells each)",
        "  hybridq set build a x b c float32",
    ]


def test_other_kinds_what_no_precision_mends_and_warnings_with_facts_of_their_own_stand_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    joined = [note(name, severity="warning", code="concat") for name in ("a", "b")]
    coarse = [note(name, severity="warning") for name in ("e", "f")]
    lines = said(capsys, *joined, *coarse, note("c", code="sum"), note("d"), SAMPLES)
    assert [line for line in lines if not line.startswith(" ")] == [
        "warning: 'a' is coarse",
        "warning: 'b' is coarse",
        "warning: 'e' is coarse",
        "note: 'c' is coarse",
        "note: 'd' is coarse",
        "note: ranges still grow",
    ]


def test_verbose_tells_each(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, *(note(f"t{i}") for i in range(20)), verbose=True)
    assert sum(line.startswith("note: ") for line in lines) == 20


def test_behind_a_search_only_what_no_precision_mends_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = (note("a", severity="warning"), note("b"), SAMPLES)
    assert said(capsys, *found, searched=True) == [
        "note: ranges still grow",
        "  remedy: more samples",
        "2 more on single layers went into the search (--verbose has them)",
    ]
    assert "warning: 'a' is coarse" in said(capsys, *found, searched=True, verbose=True)
