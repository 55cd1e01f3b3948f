"""The Chromium that is on the machine, driven by Playwright; tests that need it say so where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser; skips the test where none is installed."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    with sync_playwright() as driver:
        bundled = Path(driver.chromium.executable_path)
        if path is None and not bundled.is_file():
            pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
        launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


def opened(one: Browser, page: Path, *, width: int = 1300, scheme: str = "light", faults: list[str]) -> Page:
    """The page of a file, without any network; what goes wrong in it is added to ``faults``."""
    context = one.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    found = context.new_page()
    found.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on(
        "request",
        lambda request: faults.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    found.goto(page.as_uri())
    return found


def _leaves(url: str) -> bool:
    return not url.startswith(("file:", "data:"))
