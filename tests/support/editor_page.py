"""ComfyUI's real editor in Chromium with the fake camera: what a person does there, and what they see."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peer_env import peer_python

CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
OLDEST, NEWEST = "1.27.10", "1.58.1"
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
# Errors of the editor itself, without any extension.
ITS_OWN = ("Cannot read properties of undefined (reading 'id')",)
# The camera is green, without red; blend_factor 1 is its negative.
BLEND = {
    "1": {"class_type": "LoadTensor", "inputs": {}},
    "2": {
        "class_type": "ImageBlend",
        "inputs": {"image1": ["1", 0], "image2": ["3", 0], "blend_factor": 0.0, "blend_mode": "normal"},
    },
    "3": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "4": {"class_type": "SaveTensor", "inputs": {"images": ["2", 0]}},
}
WIDGET = """([id, name]) => {
  const node = (app.rootGraph ?? app.graph).getNodeById(id), widget = node.widgets.find(one => one.name === name)
  const { scale, offset } = app.canvas.ds, place = app.canvas.canvas.getBoundingClientRect()
  return [(node.pos[0] + node.size[0] / 2 + offset[0]) * scale + place.left,
          (node.pos[1] + (widget.last_y ?? widget.y) + 10 + offset[1]) * scale + place.top]
}"""
# Red of the picture that comes back, below its middle, where the camera has nothing but its background.
RED = """() => {
  const video = document.querySelector('.comfystream-panel video')
  if (!video?.videoWidth) return null
  const canvas = document.createElement('canvas')
  canvas.width = canvas.height = 1
  const paint = canvas.getContext('2d', { willReadFrequently: true })
  paint.drawImage(video, video.videoWidth / 2, video.videoHeight * 0.85, 1, 1, 0, 0, 1, 1)
  return paint.getImageData(0, 0, 1, 1).data[0]
}"""
# Each picture as it is shown, with the time.
WATCH = f"""() => {{ window.seen = []; const look = {RED}, video = document.querySelector('.comfystream-panel video')
  const shown = () => {{
    const red = look()
    if (red !== null) window.seen.push([performance.now(), red])
    video.requestVideoFrameCallback(shown)
  }}
  video.requestVideoFrameCallback(shown) }}"""
BRING = """id => {
  app.extensionManager.toast?.removeAll?.()
  app.canvas.centerOnNode((app.rootGraph ?? app.graph).getNodeById(id))
  app.canvas.setDirty(true, true)
}"""
# As if a person had set it.
SET = """([id, name, value]) => {
  const node = (app.rootGraph ?? app.graph).getNodeById(id), widget = node.widgets.find(one => one.name === name)
  widget.value = value
  widget.callback(value)
}"""


def frontend(version: str) -> Path:
    """The static files of the editor's package; skips where it cannot be had."""
    python = peer_python("frontend", f"comfyui-frontend-package=={version}", with_dependencies=False)
    return next(python.parent.parent.glob("lib/python*/site-packages/comfyui_frontend_package/static"))


@contextlib.contextmanager
def editor(address: str, folder: Path) -> Iterator[EditorPage]:
    """The editor, loaded, with our extension ready. Errors of the page and calls to other hosts fail."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    outside: list[str] = []
    with sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": 1400, "height": 850},
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(40_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or outside.append(r.url))
            page.goto(address)
            page.wait_for_function("() => window.comfystream?.ready")
            page.evaluate("async () => { window.app ??= (await import('/scripts/app.js')).app }")
            page.wait_for_selector(".comfystream-go-live")
            yield EditorPage(page)
        finally:
            context.pages[0].screenshot(path=str(folder / "editor.png"))  # also of what went wrong
            context.close()
    assert not [error for error in errors if error not in ITS_OWN]
    assert not outside


class EditorPage:
    """What can be done in it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def load(self, graph: dict[str, Any]) -> None:
        self.page.evaluate("async graph => { await app.loadApiJson(graph, 'live') }", graph)
        self.page.wait_for_function(
            "ids => ids.every(id => (app.rootGraph ?? app.graph).getNodeById(id))", arg=[*graph]
        )

    def open_panel(self) -> None:
        self.page.evaluate("app.extensionManager.sidebarTab.toggleSidebarTab('comfystream')")
        self.page.wait_for_selector(".comfystream-panel video")

    def go_live(self) -> None:
        """Press the button; wait until the workflow is taken and pictures come back."""
        self.page.click(".comfystream-go-live")
        self.page.wait_for_function("() => comfystream.state === 'live' && comfystream.sent")
        self.page.wait_for_function(f"({RED}) !== null && ({RED})() !== null")

    def wait_red(self, test: str) -> None:
        self.page.wait_for_function(f"() => {{ const red = ({RED})(); return red !== null && red {test} }}")

    def set(self, id: int, name: str, value: Any) -> None:
        self.page.evaluate(SET, [id, name, value])

    def hold(self, id: int, name: str) -> tuple[float, float]:
        """The mouse goes down on a widget, which is moved to where no message of the editor lies over it."""
        self.page.evaluate(BRING, id)
        self.page.wait_for_timeout(100)  # it is drawn there
        x, y = self.page.evaluate(WIDGET, [id, name])
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        return x, y
