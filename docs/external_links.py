"""Ask every address outside that a document names whether it answers. For a person at a network; no test runs it."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https?://[^\s)>\"'`]+[^\s)>\"'`.,;:]")
SECONDS = 20


def addresses() -> Iterator[tuple[str, Path]]:
    """Every address once, and the first page that names it."""
    seen: set[str] = set()
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "demos").glob("*.md")]):
        for address in ADDRESS.findall(page.read_text(encoding="utf-8")):
            if address not in seen:
                seen.add(address)
                yield address, page


def fault(address: str) -> str:
    """Why an address does not answer; nothing where it does."""
    request = urllib.request.Request(address, headers={"User-Agent": "hybridq-docs"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return ""
    except (urllib.error.URLError, TimeoutError) as error:
        return str(error)


def main() -> int:
    """Print what does not answer; 1 where there is any."""
    faults = [(page, address, found) for address, page in addresses() if (found := fault(address))]
    for page, address, found in faults:
        print(f"{page.relative_to(ROOT)}: {address}: {found}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
