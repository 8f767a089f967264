"""The whole path on a laptop: `comfystream gateway` and `comfystream byoc` as processes, the page in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}, or CHROMIUM_PATH"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream=fps=20",
    "--use-fake-ui-for-media-stream",
]
DEADLINE_S = 60.0
# The mean colours of what goes in and what comes out: through `invert` they add up to white.
LOOK = """() => {
  const mean = id => {
    const video = document.getElementById(id), canvas = document.createElement('canvas')
    if (!video.videoWidth) return null
    canvas.width = canvas.height = 16
    const paint = canvas.getContext('2d'), side = Math.min(video.videoWidth, video.videoHeight)
    paint.drawImage(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side, 0, 0, 16, 16)
    const data = paint.getImageData(0, 0, 16, 16).data, sums = [0, 0, 0]
    for (let i = 0; i < data.length; i++) if (i % 4 < 3) sums[i % 4] += data[i] / 256
    return sums
  }
  const [a, b] = [mean('input'), mean('output')]
  return a && b && { sum: a.map((x, i) => x + b[i]), off: a.map((x, i) => Math.abs(x - b[i])) }
}"""
INVERTED = f"() => {{ const seen = ({LOOK})(); return seen && seen.sum.every(x => Math.abs(x - 255) < 40) }}"
UNCHANGED = f"() => {{ const seen = ({LOOK})(); return seen && seen.off.every(x => x < 30) }}"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts the command; whatever still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []
    folder = tmp_path_factory.mktemp("processes")

    def run(*arguments: object, **environ: str) -> subprocess.Popen[str]:
        code = "import sys; from comfystream_server.cli import main; sys.exit(main())"
        log = (folder / f"{len(started)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **environ},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"Page:\s+(http://\S+)/", line):
            return found[1]
    raise AssertionError("the gateway ended")


def until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come about")


def wait(page: Any, expression: str) -> None:
    """Until it is true; unlike playwright's own way this needs no eval, which the page's policy forbids."""
    until(lambda: page.evaluate(expression), expression)


def capabilities(address: str) -> str:
    with urllib.request.urlopen(f"{address}/api/v1/capabilities", timeout=5) as answer:
        return str(answer.read().decode())


def free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def address(start: Start) -> str:
    """A gateway with a worker on its list."""
    address = address_of(start("gateway", "--port", 0, "--log-level", "info"))
    port = free_port()
    flags = ("--host", "127.0.0.1", "--port", port, "--threads", 1)
    start("byoc", *flags, ORCH_URL=address, ORCH_SECRET="development", CAPABILITY_URL=f"http://127.0.0.1:{port}")
    until(lambda: '"ready"' in capabilities(address), "the worker's registration")
    return address


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Any]:
    """The page; any error of it, and any call to elsewhere, fails the test."""
    errors: list[str] = []
    outside: list[str] = []
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=CHROMIUM, headless=True, args=FLAGS
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(DEADLINE_S * 1000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or outside.append(r.url))
            page.goto(address)
            wait(page, "window.comfystreamGateway?.loaded")
            wait(page, "document.getElementById('capability').value === 'comfystream'")
            yield page
            page.screenshot(path=str(tmp_path / "page.png"))
        finally:
            context.close()
    assert not errors
    assert not outside


def test_the_camera_comes_back_changed_updates_change_it_and_stop_frees_everything(page: Any, address: str) -> None:
    page.fill("#width", "320")
    page.fill("#height", "240")
    page.select_option("#workflow", "invert")
    page.click("#start")
    wait(page, "window.comfystreamGateway.state === 'running'")
    wait(page, INVERTED)
    page.select_option("#workflow", "passthrough")
    wait(page, "document.getElementById('sent').textContent === 'taken'")
    wait(page, UNCHANGED)
    page.fill("#params", '{"prompts": "no workflow"}')
    page.click("#send")
    wait(page, "document.querySelector('.card')?.textContent.includes('It was not taken')")
    wait(page, "window.comfystreamGateway.status?.frames?.out > 10")
    wait(page, "document.getElementById('log').textContent.includes('running at')")
    page.click("#start")
    wait(page, "window.comfystreamGateway.state === 'no stream'")
    until(lambda: '"load": 0' in capabilities(address), "the free place")
