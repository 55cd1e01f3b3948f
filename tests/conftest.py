"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True)  # a landing must not hang on the luck of new examples
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    """The model zoo's loader, from $HYBRIDQ_ZOO or beside the checkout; skips where it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "zoo"
    path = Path(os.environ.get("HYBRIDQ_ZOO", default)) / "zoo.py"
    spec = importlib.util.spec_from_file_location("zoo", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        pytest.skip("the model zoo is absent")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
