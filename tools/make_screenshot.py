#!/usr/bin/env python3
"""Make the picture of the page for the documentation: the real server and a real browser, with the demo clip.

    python tools/make_screenshot.py [--phone FILE]

Writes `docs/images/page.jpg`. It needs playwright (the `dev` extra) and Chromium (/usr/bin/chromium or CHROMIUM_PATH).
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
WORKFLOW, AFTER_S = "cartoon", 4.0
DESKTOP, PHONE = (1280, 860), (390, 844)


@contextmanager
def serving(recordings: str) -> Iterator[str]:
    """The address of a server that plays the demo clip."""
    main = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    clips = str(REPOSITORY / "workflows" / "assets")
    options = ["--port", "0", "--sources", clips, "--recordings", recordings]
    command = [sys.executable, "-P", "-c", main, "serve", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
    finally:
        process.terminate()
        process.wait(30)


def shot(browser: Any, address: str, size: tuple[int, int], *, whole: bool = False) -> Image.Image:
    """The page while it runs, at a size of the window."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, bypass_csp=True)
    page.goto(address)
    page.wait_for_function("window.comfystream?.loaded")
    page.select_option("#source", "file")
    page.select_option("#file", "demo.mp4")
    page.select_option("#workflow", WORKFLOW)
    page.click("#connect")
    page.wait_for_function("window.comfystream.ready")
    page.wait_for_function("s => document.getElementById('output').currentTime > s", arg=AFTER_S)
    page.wait_for_function("document.querySelectorAll('#stats div').length > 6")
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole)))
    page.close()
    return picture.convert("RGB")


def main() -> None:
    """Both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phone", type=Path, help="also write the page as a phone shows it")
    wanted = parser.parse_args()
    chromium = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    with tempfile.TemporaryDirectory() as folder, serving(folder) as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, headless=True, args=flags)
        shot(browser, address, DESKTOP).save(REPOSITORY / "docs" / "images" / "page.jpg", quality=85, optimize=True)
        if wanted.phone is not None:
            shot(browser, address, PHONE, whole=True).save(wanted.phone)
        browser.close()


if __name__ == "__main__":
    main()
