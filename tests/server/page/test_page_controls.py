"""What a person does on the page: sources, sizes, recordings, presets, a workflow of theirs, the token."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
from engine_harness import fill, node
from page_harness import CLIP_GREY, NEAR, Browser, Program, serving
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

# A file is dropped on the page, as a file manager does it.
DROP = """([name, text]) => {
  const dropped = new DataTransfer()
  dropped.items.add(new File([text], name))
  for (const kind of ['dragover', 'drop']) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: dropped, bubbles: true, cancelable: true }))
  }
}"""
# All that the page says of its state from now on.
LISTEN = """() => {
  const state = document.getElementById('state')
  window.said = []
  new MutationObserver(() => window.said.push(state.textContent)).observe(state, { childList: true })
}"""
# What can be worked with has a name that a screen reader says.
NAMELESS = """() => [...document.querySelectorAll('button, select, input, textarea, a, video')].filter(one =>
  !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim()).map(one => one.outerHTML)"""


def png(graph: dict[str, Any]) -> bytes:
    """A picture with a workflow inside, as ComfyUI saves it."""
    info, out = PngInfo(), BytesIO()
    info.add_text("prompt", json.dumps(graph), zip=True)
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def drop_red(page: Any) -> None:
    """Have the page run a workflow that makes a dark red picture."""
    made = node("EmptyImage", width=64, height=48, batch_size=1, color=0x330000)
    page.evaluate(DROP, ["red.json", json.dumps({"made": made, "out": node("SaveTensor", images=["made", 0])})])
    page.wait_for_function(NEAR, arg=0x33)


def test_presets_are_kept_chosen_and_deleted(page: Any) -> None:
    field = page.locator("[data-node=fill][data-input=number] input")
    page.click("#keep")
    page.fill("#preset-name", "Dark")
    page.press("#preset-name", "Enter")
    page.wait_for_function("() => document.getElementById('preset').value === 'Dark'")
    field.fill("1")
    field.press("Enter")
    page.wait_for_function(NEAR, arg=255)
    expect(page.locator("#preset")).to_have_value("")
    page.select_option("#preset", "Dark")
    page.wait_for_function(NEAR, arg=51)
    page.wait_for_function("() => !document.getElementById('forget').disabled")
    assert field.input_value() == "0.2"
    page.click("#forget")
    page.wait_for_function("() => document.getElementById('preset').disabled")


def test_a_file_of_the_server_is_chosen_and_its_last_picture_goes_on(page: Any) -> None:
    expect(page.locator("#file")).to_have_text("grey.mp4")
    page.select_option("#workflow", "plain")
    page.select_option("#source", "file")
    page.wait_for_function(NEAR, arg=CLIP_GREY)
    expect(page.locator("#input")).to_be_hidden()
    page.uncheck("#looped")
    page.locator("#source-state", has_text="grey.mp4 is over").wait_for()
    page.select_option("#workflow", "level")
    page.wait_for_function(NEAR, arg=51)
    page.select_option("#source", "camera")
    page.wait_for_function("() => comfystream.last?.source.startsWith('viewer') && comfystream.last.fps_in > 10")
    expect(page.locator("#input")).to_be_visible()


def test_the_size_is_the_sessions(page: Any) -> None:
    page.select_option("#size", "fill")
    page.fill("#width", "320")
    page.press("#width", "Enter")
    page.fill("#height", "180")
    page.press("#height", "Enter")
    page.wait_for_function("() => document.getElementById('output').videoHeight === 180")
    assert page.evaluate("() => document.getElementById('output').videoWidth") == 320
    page.fill("#width", "321")
    page.press("#width", "Enter")
    page.locator(".card", has_text="The size was not set").wait_for()


def test_a_recording_made_here_plays(page: Any, program: Program) -> None:
    before = {*(program.folder / "recorded").iterdir()}
    page.click("#record")
    page.wait_for_function("() => comfystream.last?.sinks.some(one => one.state === 'running' && one.frames > 30)")
    assert page.locator("#record").get_attribute("aria-pressed") == "true"
    page.click("#record")
    page.locator(".card", has_text="Recorded").wait_for()
    (path,) = {*(program.folder / "recorded").iterdir()} - before
    assert path.name in page.locator(".card").first.inner_text()
    with av.open(str(path)) as container:
        greys = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    assert len(greys) > 30
    assert all(abs(grey - 51) < 6 for grey in greys)
    expect(page.locator("#push-open")).to_be_hidden()  # the server allows no receivers


def test_a_snapshot_is_downloaded(page: Any) -> None:
    with page.expect_download() as got:
        page.click("#snapshot")
    with Image.open(got.value.path()) as image:
        assert abs(image.convert("L").getpixel((5, 5)) - 51) < 12


def test_a_workflow_is_dropped_on_the_page(page: Any, tmp_path: Path) -> None:
    page.evaluate(DROP, ["mine.json", json.dumps(fill(0.7))])
    page.wait_for_function(NEAR, arg=179)
    expect(page.locator("#workflow option:checked")).to_have_text("mine.json")
    page.set_input_files("#workflow-file", {"name": "mine.png", "mimeType": "image/png", "buffer": png(fill(0.4))})
    page.wait_for_function(NEAR, arg=102)
    page.evaluate(DROP, ["photo.json", "{"])
    page.locator(".card", has_text="photo.json was not loaded").wait_for()
    page.evaluate(DROP, ["other.json", json.dumps(fill(0.5, fill=node("NoSuchNode")))])
    page.locator(".card", has_text="NoSuchNode").wait_for()
    page.wait_for_function(NEAR, arg=102)
    page.click("#undo")
    page.wait_for_function(NEAR, arg=179)


def test_a_colour_is_chosen_as_a_colour(page: Any) -> None:
    drop_red(page)
    field = page.locator("input[type=color]")
    assert field.input_value() == "#330000"
    field.fill("#cc0000")
    page.wait_for_function(NEAR, arg=0xCC)
    page.click("#undo")
    page.wait_for_function("() => document.querySelector('input[type=color]').value === '#330000'")


def test_a_value_that_is_refused_or_left_empty_is_shown_no_longer(page: Any) -> None:
    drop_red(page)
    field = page.locator("[data-input=width] input").last
    is_as_before = "() => [...document.querySelectorAll('[data-input=width] input')].every(one => one.value === '64')"
    field.fill("99999")
    field.press("Tab")
    page.locator(".card", has_text="The value was not taken").wait_for()
    page.wait_for_function(is_as_before)
    field.fill("")
    field.press("Tab")
    page.wait_for_function(is_as_before)


def test_sound_is_added_by_one_connection_in_the_place_of_the_other(page: Any) -> None:
    page.check("#sound")
    page.wait_for_function("() => comfystream.ready && comfystream.pc?.getTransceivers().length === 2")
    page.wait_for_function("() => comfystream.last?.viewers === 1 && comfystream.last.connection?.audio_out")


@pytest.mark.long
def test_a_server_that_hangs_is_told_at_once(
    tmp_path_factory: pytest.TempPathFactory, start_browser: Callable[..., Browser]
) -> None:
    with serving(tmp_path_factory.mktemp("hanging")) as hanging:
        page = start_browser().connected(hanging.address)
        page.evaluate(LISTEN)  # it may be reconnecting a moment later
        os.kill(hanging.pid, signal.SIGSTOP)
        try:
            page.wait_for_function("() => window.said.some(text => text.endsWith('the server does not answer'))")
        finally:
            os.kill(hanging.pid, signal.SIGCONT)
        page.wait_for_function("() => document.getElementById('state').textContent === 'running'")


def test_workflows_that_need_models_stand_apart(page: Any, program: Program) -> None:
    try:
        (program.folder / "painted.json").write_text(json.dumps(fill(0.2)))
        (program.folder / "painted.yaml").write_text("title: Painted\nmodels: [sd-turbo, taesd]")
        page.reload()
        page.locator("optgroup[label='Need models'] option", has_text="Painted").wait_for(state="attached")
        page.select_option("#workflow", "painted")
        expect(page.locator("#about")).to_have_text("Needs models: sd-turbo, taesd.")
    finally:
        (program.folder / "painted.json").unlink()


@pytest.mark.long
def test_a_server_with_a_token_asks_for_it(
    tmp_path_factory: pytest.TempPathFactory, start_browser: Callable[..., Browser]
) -> None:
    with serving(tmp_path_factory.mktemp("guarded"), "--token", "open-sesame") as guarded:
        browser = start_browser()
        page = browser.open(guarded.address.split("#")[0])
        for attempt, title in (("wrong", "asks for a token"), ("open-sesame", "token is not right")):
            page.locator(".card", has_text=title).wait_for()
            page.fill("#token", attempt)
            with page.expect_navigation():
                page.press("#token", "Enter")
        page.wait_for_function("window.comfystream?.loaded")
        page.click("#connect")
        page.wait_for_function("window.comfystream.ready")
        other = browser.open(guarded.address.split("#")[0] + "#token=open-sesame")
        other.wait_for_function("window.comfystream?.loaded")
        assert "open-sesame" not in other.url  # nor in the history, or in what is copied out of the address bar


def test_everything_has_a_name_and_fits_a_phone(page: Any) -> None:
    assert page.evaluate(NAMELESS) == []
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")
    page.focus("#connect")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id"))
    assert {"pause", "snapshot", "record", "source", "size", "workflow", "workflow-file", "keep", "policy"} <= reached


def test_the_page_keeps_to_its_own_security_policy(program: Program, start_browser: Callable[..., Browser]) -> None:
    browser = start_browser(is_checked=True)
    page = browser.open(program.address)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.locator("#workflow option").nth(3).wait_for(state="attached")
    page.click("#connect")
    page.locator("#state.running").wait_for()
    page.locator("#stats div").first.wait_for()
    assert not [text for text in said if "Content Security Policy" in text]
