"""The life of a folder, whatever is done to it in whatever order: what it holds is what a simple model of it says."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import hybridq
from hybridq.errors import HybridqError
from hybridq.files import commit as files_commit
from hybridq.quant.records import QuantConfig
from hybridq.steps.common import read_config, read_state
from hybridq.steps.step2 import built_from, edits_digest

LAYERS = ("relu", "logits", "scores")
PRECISIONS = ("uint8", "int16", "float32")
given_folder: list[Path] = []


class FolderLife(RuleBasedStateMachine):
    """step1, edits, step2, step3, disks that fail between file operations, step1 again with and without --merge."""

    @initialize()
    def begin(self) -> None:
        """A folder as step1 leaves it."""
        self.root = Path(tempfile.mkdtemp())
        shutil.copytree(given_folder[0], self.root, dirs_exist_ok=True)
        self.build = self.root / "build"
        self.edits: dict[str, str] = {}
        self.built: dict[str, str] | None = {}  # the edits that hybrid.onnx was built with

    def teardown(self) -> None:
        """Nothing is left."""
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(layer=st.sampled_from(LAYERS), precision=st.sampled_from(PRECISIONS))
    def edit(self, layer: str, precision: str) -> None:
        """A layer gets a precision."""
        hybridq.set(self.build, layer, precision)
        self.edits[layer] = precision

    @rule(layer=st.sampled_from(LAYERS))
    def take_back(self, layer: str) -> None:
        """An edit is taken back."""
        hybridq.unset(self.build, layer)
        self.edits.pop(layer, None)

    @rule()
    def build_it(self) -> None:
        """Step2."""
        hybridq.step2(self.build, threads=1)
        self.built = dict(self.edits)

    @rule(after=st.integers(0, 30))
    def fail_while_building(self, after: int) -> None:
        """The disk fails in the middle of step2's file operations: the old state or the new one."""
        with _failing(after) as failed:
            try:
                hybridq.step2(self.build, threads=1)
            except HybridqError:
                assert failed, "only the disk may stop it"
        files_commit.recover(self.build)
        there = (self.build / "hybrid.onnx").exists()
        if not failed or (there and _edits_of(self.build) == edits_digest(self.config())):
            self.built = dict(self.edits)

    def config(self) -> QuantConfig:
        """The folder's cfg, checked."""
        return read_config(self.build, read_state(self.build))[0]

    @precondition(lambda self: self.built is not None)
    @rule()
    def compare(self) -> None:
        """Step3 works where step2 has run since the last edit, else it says so."""
        if self.built == self.edits:
            hybridq.step3(self.build, threads=1, samples=1, seconds=0.0)
        else:
            with pytest.raises(HybridqError, match="edited since step2"):
                hybridq.step3(self.build, threads=1, samples=1)

    @rule(merge=st.booleans())
    def calibrate_again(self, merge: bool) -> None:
        """Step1 never loses an edit without --force."""
        options = {"std": 255, "threads": 1, "merge": merge}
        again = (self.root / "small.onnx", self.root / "dataset.txt", self.build)
        if self.edits and not merge:
            with pytest.raises(HybridqError, match="edited by hand"):
                hybridq.step1(*again, **options)
            return
        hybridq.step1(*again, **options)
        self.built = None

    @invariant()
    def holds_what_was_done(self) -> None:
        """The cfg has the edits, the model is the one that was built, no half-written file counts."""
        found = {e.key: e.after for e in hybridq.diff(self.build)}
        assert found == self.edits
        assert (self.build / "hybrid.onnx").exists() == (self.built is not None)
        hybridq.check(self.build)


def _edits_of(build: Path) -> str:
    """From which edits the built model was made."""
    return built_from(onnx.load(build / "hybrid.onnx"))


@contextlib.contextmanager
def _failing(after: int) -> Iterator[list[str]]:
    """The disk fails at its n-th rename, removal, sync or new folder, and from then on; gives what failed."""
    count, failed = [0], []

    def touched(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **words: Any) -> Any:
            count[0] += 1
            if count[0] > after:
                failed.append(name)
                raise OSError(5, "Input/output error")
            return whole(*args, **words)

        return call

    kept = {name: getattr(os, name) for name in ("replace", "fsync", "mkdir", "unlink")}
    try:
        for name, whole in kept.items():
            setattr(os, name, touched(name, whole))
        yield failed
    finally:
        for name, whole in kept.items():
            setattr(os, name, whole)


FolderLife.TestCase.settings = settings(
    max_examples=8, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True, scope="module")
def _given(small_folder: Path) -> None:
    given_folder[:] = [small_folder]


class TestFolderLife(FolderLife.TestCase):
    """Run by pytest."""
