"""The whole path on a laptop: `comfystream gateway` and `comfystream byoc` as processes, the page in a real browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
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
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class Processes:
    """A gateway and its workers."""

    start: Start
    gateway: subprocess.Popen[str]
    address: str

    def worker(self) -> tuple[subprocess.Popen[str], str]:
        """One more, when it is on the list; and its URL."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environ = {"ORCH_URL": self.address, "ORCH_SECRET": "development", "CAPABILITY_URL": url}
        process = self.start("byoc", "--host", "127.0.0.1", "--port", port, "--threads", 1, **environ)
        until(lambda: self.health_of(url) == "ready", "the worker's registration")
        return process, url

    def health_of(self, url: str) -> str:
        """As the gateway sees it."""
        listed = [one for each in json.loads(capabilities(self.address)) for one in each["workers"]]
        return next((str(one["health"]) for one in listed if one["url"] == url), "")


@pytest.fixture(scope="module")
def processes(start: Start) -> Processes:
    gateway = start("gateway", "--port", 0, "--rtmp-port", free_port(), "--log-level", "info")
    return Processes(start, gateway, address_of(gateway))


@pytest.fixture(scope="module")
def worker(processes: Processes) -> subprocess.Popen[str]:
    return processes.worker()[0]


@pytest.fixture(scope="module")
def address(processes: Processes, worker: subprocess.Popen[str]) -> str:
    """A gateway with a worker on its list."""
    return processes.address


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
    page.select_option("#workflow", "caption")
    wait(page, "document.getElementById('log').textContent.includes('320 x 240')")
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


GREY = """() => {
  const video = document.getElementById('output'), canvas = document.createElement('canvas')
  if (!video.videoWidth) return null
  canvas.width = canvas.height = 16
  const paint = canvas.getContext('2d')
  paint.drawImage(video, 0, 0, 16, 16)
  const data = paint.getImageData(0, 0, 16, 16).data
  return data.reduce((sum, x, i) => i % 4 < 3 ? sum + x : sum, 0) / (16 * 16 * 3)
}"""


AS_OBS = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "flv")


@contextlib.contextmanager
def ffmpeg(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program, until the block ends."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("NEEDS ffmpeg: apt-get install ffmpeg")
    process = subprocess.Popen([program, "-nostdin", "-v", "error", "-y", *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_obs_sends_where_the_page_says_and_the_result_is_shown_and_sent_on(
    page: Any, address: str, tmp_path: Path
) -> None:
    output = f"rtmp://127.0.0.1:{free_port()}/live/s3cret"
    page.select_option("#source", "rtmp")
    page.select_option("#workflow", "invert")
    page.fill("#rtmp_output", output)
    with ffmpeg("-listen", "1", "-i", output, "-c", "copy", str(tmp_path / "sent.mkv")) as receiver:
        page.click("#start")
        wait(page, "window.comfystreamGateway.state === 'running'")
        said = re.search(r"server (rtmp://\S+), stream key (\S+);", page.inner_text(".card"))
        assert said, "what is to be typed into OBS"
        grey = "color=c=0xc8c8c8:s=320x240:r=25[out0];sine=sample_rate=48000[out1]"
        with ffmpeg("-re", "-f", "lavfi", "-i", grey, *AS_OBS, f"{said[1]}/{said[2]}"):
            wait(page, f"() => Math.abs(({GREY})() - 55) < 15")
            wait(page, "document.getElementById('log').textContent.includes('/live/... is running')")
            wait(page, "window.comfystreamGateway.status?.ingest_metrics.stats.source === 'rtmp'")
        page.click("#start")
        wait(page, "window.comfystreamGateway.state === 'no stream'")
        assert receiver.wait(20) == 0, "a clean end"
    assert (tmp_path / "sent.mkv").stat().st_size > 1000
    assert "s3cret" not in page.inner_text("#log")
    until(lambda: '"load": 0' in capabilities(address), "the free place")


def test_a_gateway_that_takes_no_rtmp_says_so_and_the_stream_is_let_go(page: Any, address: str) -> None:
    def without_rtmp(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "rtmp_url": ""})

    page.route("**/process/stream/start", without_rtmp)
    page.select_option("#source", "rtmp")
    page.click("#start")
    wait(page, "document.getElementById('cards').textContent.includes('this gateway takes no RTMP')")
    assert "--rtmp-port 1935" in page.inner_text("#cards")
    assert page.evaluate("window.comfystreamGateway.state") == "no stream"
    until(lambda: '"load": 0' in capabilities(address), "the free place")


def test_a_worker_is_killed_and_the_picture_goes_on(page: Any, processes: Processes, worker: Any) -> None:
    page.select_option("#workflow", "invert")
    page.click("#start")
    wait(page, INVERTED)
    page.evaluate("window.viewer = window.comfystreamGateway.viewer")
    second, url = processes.worker()
    for process in (*psutil.Process(worker.pid).children(recursive=True), worker):
        process.kill()
    wait(page, f"window.comfystreamGateway.status?.worker === '{url}'")
    wait(page, "window.comfystreamGateway.status?.gateway_state === 'running'")
    count = page.evaluate("window.comfystreamGateway.status.frames.out")
    wait(page, f"window.comfystreamGateway.status.frames.out > {count} + 20")
    wait(page, INVERTED)
    assert page.evaluate("window.viewer === window.comfystreamGateway.viewer && viewer.connectionState === 'connected'")
    assert "The worker was lost" in page.inner_text("#cards")
    page.click("#start")
    wait(page, "window.comfystreamGateway.state === 'no stream'")
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    until(lambda: processes.health_of(url) == "", "it has left the list")


def test_the_gateway_ends_with_its_streams(page: Any, processes: Processes) -> None:
    _, url = processes.worker()
    page.click("#start")
    wait(page, UNCHANGED)
    processes.gateway.send_signal(signal.SIGTERM)
    assert processes.gateway.wait(20) == 0
    wait(page, "document.getElementById('cards').textContent.includes('the gateway ends')")
    with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
        assert json.loads(answer.read())["status"] == "IDLE"
