"""The page in a real browser with the fake camera, on the real program."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_harness import fill, link, node

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
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream=fps=30",
    "--use-fake-ui-for-media-stream",
]
PACK = Path(__file__).parent.parent / "engine" / "testing_pack.py"
SLOW_S = 5.0
FAILS_ON = ",".join(map(str, range(20, 2000)))
WORKFLOWS = {
    "level": fill(0.2),
    "slow": fill(
        0.0,
        slow=node("TestSource", number=0.9, seconds=SLOW_S),
        fill=node("TestFill", like=link("in"), number=link("slow")),
    ),
    "fails": fill(
        0.6, fail=node("TestFail", value=link("fill"), on=FAILS_ON), out=node("SaveTensor", images=link("fail"))
    ),
}
# The brightness in the middle of the picture that is shown, and the times between the pictures.
WATCH = """() => {
  const video = document.getElementById('output'), canvas = document.createElement('canvas')
  canvas.width = canvas.height = 1
  const paint = canvas.getContext('2d', { willReadFrequently: true })
  window.level = null; window.gaps = []; window.changes = []
  let last = 0
  const look = now => {
    paint.drawImage(video, video.videoWidth / 3, video.videoHeight / 3, 1, 1, 0, 0, 1, 1)
    const level = paint.getImageData(0, 0, 1, 1).data[0]
    if (last) window.gaps.push(now - last)
    if (window.level === null || Math.abs(level - window.level) > 25) window.changes.push([performance.now(), level])
    last = now; window.level = level
    video.requestVideoFrameCallback(look)
  }
  video.requestVideoFrameCallback(look)
}"""
NEAR = "wanted => window.level !== null && Math.abs(window.level - wanted) < 12"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Address and process id of a server with the testing nodes and workflows."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "packs").mkdir()
    shutil.copy(PACK, folder / "packs")
    for name, graph in WORKFLOWS.items():
        (folder / f"{name}.json").write_text(json.dumps(graph))
    main = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    options = ["--port", "0", "--nodes", str(folder / "packs"), "--workflows", str(folder), "--max-sessions", "20"]
    command = [sys.executable, "-P", "-c", main, "serve", *options]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        yield address, process.pid
        process.terminate()
        process.wait(30)


@pytest.fixture
def page(program: tuple[str, int], tmp_path: Path) -> Iterator[Any]:
    """The page, connected and running the workflow `level`; any error of the page and any call elsewhere fails."""
    errors: list[str] = []
    outside: list[str] = []
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            bypass_csp=True,
            viewport={"width": 1280, "height": 800},
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(30_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda r: r.url.startswith((program[0], "data:", "blob:")) or outside.append(r.url))
            page.goto(program[0])
            page.wait_for_function("window.comfystream?.loaded")
            page.click("#connect")
            page.wait_for_function("window.comfystream.ready")
            page.select_option("#workflow", "level")
            page.evaluate(WATCH)
            page.wait_for_function(NEAR, arg=51)
            yield page
            page.screenshot(path=str(tmp_path / "page.png"))
        finally:
            context.close()
    assert not errors
    assert not outside


def test_a_parameter_changes_the_picture(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    field = "[data-node=fill][data-input=number] input"
    took = []
    for number in (1, 0, 1, 0, 0.5):
        began = page.evaluate(
            """([field, value]) => { const at = performance.now(), one = document.querySelector(field)
            window.changes = []; one.value = value; one.dispatchEvent(new Event('change')); return at }""",
            [field, number],
        )
        page.wait_for_function(NEAR, arg=number * 255)
        took.append(page.evaluate("() => window.changes[0][0]") - began)
    with capsys.disabled():
        print(f"\n  a parameter was seen after {', '.join(f'{ms:.0f}' for ms in took)} ms")
    page.click("#undo")
    page.wait_for_function(NEAR, arg=0)
    assert page.locator(field).input_value() == "0"


def test_a_slow_workflow_is_loaded_beside_the_running_one(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page.evaluate("() => { window.gaps = [] }")
    page.wait_for_function(f"() => window.gaps.length > {int(SLOW_S * 25)}")
    quiet = page.evaluate("() => window.gaps.splice(0)")
    page.select_option("#workflow", "slow")
    page.wait_for_function(NEAR, arg=230)
    gaps = page.evaluate("() => window.gaps")
    assert sum(gaps) > SLOW_S * 900, "it did not take long to load"
    with capsys.disabled():
        median = sorted(gaps)[len(gaps) // 2]
        print(f"\n  while it loaded: {len(gaps)} pictures, median {median:.0f} ms, longest gap {max(gaps):.0f} ms")
        print(f"  before, with nothing to load: {len(quiet)} pictures, longest gap {max(quiet):.0f} ms")
    assert max(gaps) < SLOW_S * 500, "the picture stood still while it loaded"


def test_presets_are_kept_chosen_and_deleted(page: Any) -> None:
    field = page.locator("[data-node=fill][data-input=number] input")
    page.click("#keep")
    page.fill("#preset-name", "Dark")
    page.press("#preset-name", "Enter")
    page.wait_for_function("() => document.getElementById('preset').value === 'Dark'")
    field.fill("1")
    field.press("Enter")
    page.wait_for_function(NEAR, arg=255)
    assert page.locator("#preset").input_value() == ""
    page.select_option("#preset", "Dark")
    page.wait_for_function(NEAR, arg=51)
    page.wait_for_function("() => !document.getElementById('forget').disabled")
    assert field.input_value() == "0.2"
    page.click("#forget")
    page.wait_for_function("() => document.getElementById('preset').disabled")


def test_a_node_that_fails_shows_its_card_and_the_last_picture(page: Any) -> None:
    page.select_option("#workflow", "fails")
    page.wait_for_function(NEAR, arg=153)
    card = page.locator(".card", has_text="TestFail")
    card.wait_for()
    assert "the test asked for this" in card.inner_text()
    page.wait_for_function(NEAR, arg=153)
    page.select_option("#workflow", "level")
    page.wait_for_function(NEAR, arg=51)
    assert page.locator(".card").count() == 0


def test_the_engine_killed_comes_back_by_itself(page: Any, program: tuple[str, int]) -> None:
    everybody = map(int, filter(str.isdigit, os.listdir("/proc")))
    child = next(pid for pid in everybody if _parent(pid) == program[1] and _is_engine(pid))
    os.kill(child, signal.SIGKILL)
    page.locator(".card", has_text="started again").wait_for()
    page.evaluate("() => { window.gaps = [] }")
    page.wait_for_function("() => window.gaps.length > 5")
    page.wait_for_function(NEAR, arg=51)
    assert page.evaluate("() => comfystream.pc.connectionState") == "connected"


def test_coming_back_finds_the_session_running(page: Any) -> None:
    session = page.evaluate("() => comfystream.session")
    page.reload()
    page.wait_for_function("window.comfystream?.ready")
    assert page.evaluate("() => comfystream.session") == session
    assert page.locator("#workflow").input_value() == "level"


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _is_engine(pid: int) -> bool:
    return "child_main" in Path(f"/proc/{pid}/cmdline").read_text()
