"""The pictures of docs/report.md: screenshots of a report, wide and narrow, light and dark, in few colors.

    hybridq demo && cd hybridq-demo
    hybridq step1 detector.onnx --dataset data/calibration.txt --mean 127.5 --std 64 -o build && hybridq step2 build
    hybridq step3 build --dataset data/evaluation.txt --samples 60 --metric boxes:yolov8 --draw boxes:yolov8 --what-if
    python docs/shots.py hybridq-demo/build/report/index.html
    python docs/shots.py --graph ANOTHER/report/index.html LAYER graph-285-layers.png

Look at every one before it is committed. Needs Chromium, playwright, and a font with Chinese characters for a button.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent / "report"
SHOTS = {1300: 4260, 390: 3200}  # width and height in CSS pixels
SCALE, COLORS = 0.75, 256


def small(png: bytes, path: Path) -> None:
    """A picture in few colors and fewer pixels."""
    with Image.open(io.BytesIO(png)) as full:
        size = round(full.width * SCALE), round(full.height * SCALE)
        found = full.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        found.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


def whole(page: Page, width: int, height: int) -> bytes:
    """The page from its top on."""
    return page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})


def graph(page: Page, layer: str) -> bytes:
    """The graph's view with one layer's story."""
    page.locator("#view-2").click()
    page.locator(f'.mark[data-name="{layer}"]').first.click()
    section = page.locator("#layers")
    box = section.bounding_box() or {"x": 0, "y": 0, "width": 1300, "height": 1}
    return page.screenshot(full_page=True, clip={**box, "height": min(box["height"], 1120)})


def main() -> None:
    """Take the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="index.html")
    parser.add_argument("--graph", nargs=2, metavar=("LAYER", "NAME"), help="only its graph with a layer, to a file")
    asked = parser.parse_args()
    with sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width, height in SHOTS.items():
            for scheme in ("light", "dark"):
                context = one.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page = context.new_page()
                page.goto(asked.report.resolve().as_uri())
                if not asked.graph:
                    small(whole(page, width, height), FOLDER / f"page-{width}-{scheme}.png")
                elif (width, scheme) == (1300, "light"):
                    small(graph(page, asked.graph[0]), FOLDER / asked.graph[1])
        one.close()


if __name__ == "__main__":
    main()
