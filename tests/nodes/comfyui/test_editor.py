"""The extension in ComfyUI's real editor, oldest and newest, with a real server behind it and the fake camera."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_stub import StubComfyUI
from editor_page import BLEND, CHROMIUM, NEWEST, OLDEST, WATCH, EditorPage, editor, frontend
from real_server import server

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.long,  # with the page of the editor, that is loaded for each
    pytest.mark.timeout(400),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}, or CHROMIUM_PATH"),
]

# The editor's own message, whatever its elements are called.
TOAST = """words => [...document.querySelectorAll('body *')].some(one =>
  !one.closest('.comfystream-panel') && !one.children.length && one.textContent.includes(words))"""


VALUE = "([id, name]) => (app.rootGraph ?? app.graph).getNodeById(id).widgets.find(one => one.name === name).value"


@pytest.fixture(scope="session")
def object_info(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node classes of our engine, in ComfyUI's form."""
    file = tmp_path_factory.mktemp("info") / "object_info.json"
    with server() as running, urllib.request.urlopen(f"{running.address}/api/v1/object_info", timeout=120) as answer:
        file.write_bytes(answer.read())
    return file


@pytest.fixture(params=[OLDEST, NEWEST])
def live(
    request: pytest.FixtureRequest, comfyui: Callable[..., StubComfyUI], object_info: Path, tmp_path: Path
) -> Iterator[tuple[EditorPage, StubComfyUI]]:
    """The editor with the blending workflow, live, the panel open."""
    host = comfyui(STUB_EDITOR=str(frontend(request.param)), STUB_OBJECT_INFO=str(object_info))
    with editor(host.address, tmp_path) as page:
        page.load(BLEND)
        page.open_panel()
        page.go_live()
        page.wait_red("< 90")
        yield page, host


def test_an_edit_goes_live_while_it_is_made(live, capsys: pytest.CaptureFixture[str]) -> None:
    editing, host = live
    page = editing.page
    assert host.status()["running"]

    page.evaluate(WATCH)
    x, y = editing.hold(2, "blend_factor")
    sent = page.evaluate("comfystream.flushes")
    for step in range(45):
        page.mouse.move(x + step * 4, y)
        page.wait_for_timeout(20)
    editing.wait_red("> 150")  # while the button is down
    assert page.evaluate("comfystream.flushes") - sent >= 5
    page.mouse.up()

    # One change by hand, timed from the change to the picture.
    took = page.evaluate(
        """async () => {
        const widget = (app.rootGraph ?? app.graph).getNodeById(2).widgets.find(one => one.name === 'blend_factor')
        const set = value => { widget.value = value; widget.callback(value) }, times = []
        const plain = [0, red => red < 90], negative = [1, red => red > 150]
        for (const [value, done] of [plain, negative, plain, negative]) {
          await new Promise(go => setTimeout(go, 600))
          const began = performance.now(); window.seen = []; set(value)
          while (!window.seen.some(([, red]) => done(red))) await new Promise(go => setTimeout(go, 10))
          times.push(window.seen.find(([, red]) => done(red))[0] - began)
        }
        return times }"""
    )
    with capsys.disabled():
        print(f"\n  an edit in the editor was seen after {', '.join(f'{ms:.0f}' for ms in took)} ms")

    # Re-wiring: the negative directly to the output, past the blending.
    editing.set(2, "blend_factor", 0)
    editing.wait_red("< 90")
    page.evaluate("() => { const g = app.rootGraph ?? app.graph; g.getNodeById(3).connect(0, g.getNodeById(4), 0) }")
    editing.wait_red("> 150")
    # Bypass of the negative: the camera's own picture.
    page.evaluate("() => { const g = app.rootGraph ?? app.graph; app.canvas.selectNode(g.getNodeById(3)) }")
    page.locator("canvas").first.focus()
    page.keyboard.press("Control+b")
    editing.wait_red("< 90")
    page.keyboard.press("Control+z")
    editing.wait_red("> 150")


def test_an_error_is_a_red_frame_and_goes_with_its_cause(live) -> None:
    editing, host = live
    page = editing.page
    page.evaluate("() => (app.rootGraph ?? app.graph).getNodeById(4).disconnectInput(0)")
    page.wait_for_function("() => (app.rootGraph ?? app.graph).getNodeById(4).has_errors")
    trouble = page.locator(".comfystream-panel .trouble")
    assert "images" in trouble.inner_text()
    page.wait_for_function(TOAST, arg="The edit was not taken")
    editing.wait_red("< 90")  # the workflow before runs on
    page.evaluate("() => { const g = app.rootGraph ?? app.graph; g.getNodeById(3).connect(0, g.getNodeById(4), 0) }")
    editing.wait_red("> 150")
    page.wait_for_function("() => !(app.rootGraph ?? app.graph).getNodeById(4).has_errors")
    assert trouble.is_hidden()


def test_a_server_that_dies_is_started_again_and_the_stream_comes_back(live) -> None:
    editing, host = live
    page = editing.page
    editing.set(2, "blend_factor", 1)
    editing.wait_red("> 150")
    before = host.status()["pid"]
    os.kill(before, signal.SIGKILL)
    page.wait_for_function("() => comfystream.state === 'returning'")
    trouble = page.locator(".comfystream-panel .trouble")
    assert "SIGKILL" in trouble.inner_text()
    page.wait_for_function("() => comfystream.state === 'live' && comfystream.sent", timeout=90_000)
    editing.wait_red("> 150")  # the workflow as it is in the editor
    assert host.status()["pid"] != before
    assert "SIGKILL" in page.locator(".comfystream-panel .restarts").inner_text()
    assert trouble.is_hidden()
    editing.set(2, "blend_factor", 0)
    editing.wait_red("< 90")

    # Not wanted: the editor says so, with its last words, and the button goes back.
    assert host.call("settings", {"restart": False})[0] == 200
    page.locator(".comfystream-panel button[data-name=restart]").click()
    page.wait_for_function("() => comfystream.server.state === 'running' && comfystream.state === 'off'")
    page.click(".comfystream-go-live")
    page.wait_for_function("() => comfystream.state === 'live' && comfystream.sent")
    os.kill(host.status()["pid"], signal.SIGKILL)
    page.wait_for_function("() => comfystream.server.state === 'failed' && comfystream.state === 'off'")
    assert "SIGKILL" in trouble.inner_text()
    page.click(".comfystream-go-live")
    page.wait_for_function("() => comfystream.state === 'live' && comfystream.sent")


def say(host: StubComfyUI, session: str, message: dict[str, Any]) -> dict[str, Any]:
    """Another controller of the session: a program that calls the server itself."""
    address, _, token = host.status()["ui_url"].partition("/#token=")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"v": 1, **message}).encode()
    request = urllib.request.Request(f"{address}/api/v1/sessions/{session}/control", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_what_others_change_comes_into_the_editor(live) -> None:
    editing, host = live
    page = editing.page
    session = page.evaluate("comfystream.session")
    sent = page.evaluate("comfystream.flushes")
    told = say(host, session, {"type": "patch", "patches": [{"node": "2", "input": "blend_factor", "value": 1}]})
    page.wait_for_function(f"() => ({VALUE})([2, 'blend_factor']) === 1")
    editing.wait_red("> 150")
    page.wait_for_function("revision => comfystream.seen === revision", arg=told["revision"])
    page.wait_for_timeout(500)  # no echo: nothing was sent, and the revision is theirs
    assert page.evaluate("comfystream.flushes") == sent
    assert say(host, session, {"type": "describe"})["revision"] == told["revision"]

    # An edit of ours that replaces the workflow keeps what they have set.
    page.evaluate("() => { const g = app.rootGraph ?? app.graph; g.getNodeById(3).connect(0, g.getNodeById(4), 0) }")
    page.wait_for_function("before => comfystream.flushes > before", arg=sent)
    assert say(host, session, {"type": "undo"})["ok"]
    choice = page.locator(".comfystream-choice")
    choice.wait_for()  # the undone link is another workflow than the one that is shown
    choice.get_by_text("Open it here").click()
    page.wait_for_function("() => !comfystream.foreign && comfystream.sent")
    inputs = page.evaluate("async () => (await app.graphToPrompt()).output")
    assert inputs["4"]["inputs"]["images"] == ["2", 0]
    assert inputs["2"]["inputs"]["blend_factor"] == 1


def test_another_workflow_waits_for_a_choice(live) -> None:
    editing, host = live
    page = editing.page
    session = page.evaluate("comfystream.session")
    theirs = {
        "7": {"class_type": "LoadTensor", "inputs": {}},
        "8": {"class_type": "ImageInvert", "inputs": {"image": ["7", 0]}},
        "9": {"class_type": "SaveTensor", "inputs": {"images": ["8", 0]}},
    }
    told = say(host, session, {"type": "set_workflow", "workflow": theirs})
    choice = page.locator(".comfystream-choice")
    choice.wait_for()
    page.wait_for_function(TOAST, arg="Another workflow is running")
    editing.wait_red("> 150")
    assert page.evaluate("() => (app.rootGraph ?? app.graph).getNodeById(2) !== null"), "nothing here was replaced"
    editing.set(2, "blend_factor", 0.2)
    page.wait_for_timeout(400)
    assert say(host, session, {"type": "describe"})["revision"] == told["revision"], "nothing of theirs was replaced"
    choice.get_by_text("Run mine again").click()
    editing.wait_red("< 120")
    assert set(say(host, session, {"type": "describe"})["info"]["workflow"]) == {"1", "2", "3", "4"}

    say(host, session, {"type": "set_workflow", "workflow": theirs})
    choice.wait_for()
    choice.get_by_text("Open it here").click()
    page.wait_for_function("() => (app.rootGraph ?? app.graph).getNodeById(8)?.type === 'ImageInvert'")
    editing.wait_red("> 150")
    page.wait_for_function("() => !comfystream.foreign && comfystream.sent")
    page.evaluate("() => { const g = app.rootGraph ?? app.graph; g.getNodeById(7).connect(0, g.getNodeById(9), 0) }")
    editing.wait_red("< 90")
    assert choice.count() == 0
