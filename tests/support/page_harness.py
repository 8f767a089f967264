"""The real program and a real browser with the fake camera, for tests of the page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from engine_harness import fill, link, node, picture

CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
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
PACK = Path(__file__).parent.parent / "engine" / "testing_pack"
SLOW_S = 5.0
CLIP_GREY = 200
FAILS_ON = ",".join(map(str, range(20, 2000)))


def _slow(number: float) -> dict[str, Any]:
    """A workflow that takes `SLOW_S` seconds to load, and then fills the picture with `number`."""
    return fill(
        0.0,
        slow=node("TestSource", number=number, seconds=SLOW_S),
        fill=node("TestFill", like=link("in"), number=link("slow")),
    )


WORKFLOWS = {
    "level": fill(0.2),
    "plain": {"in": node("LoadTensor"), "out": node("SaveTensor", images=link("in"))},
    "slow": _slow(0.9),
    "tardy": _slow(0.8),  # sessions share what is loaded: each test that looks at the loading needs one of its own
    "wrong": fill(
        0.0,
        builder=node("TestBuilds", engines=3, number=0.9),
        fill=node("TestFill", like=link("in"), number=link("builder")),
    ),
    "fails": fill(
        0.6, fail=node("TestFail", value=link("fill"), on=FAILS_ON), out=node("SaveTensor", images=link("fail"))
    ),
}
# The brightness in the picture that is shown, while somebody wants it; and of each picture when it was presented, when
# its last packet had come, its RTP time in ms, and its number among those presented.
WATCH = """() => {
  const video = document.getElementById('output'), canvas = document.createElement('canvas')
  canvas.width = canvas.height = 1
  const paint = canvas.getContext('2d', { willReadFrequently: true })
  window.level = null; window.isLooking = true; window.shown = []; window.changes = []
  const look = (now, data) => {
    window.shown.push([now, data.receiveTime ?? 0, data.rtpTimestamp / 90, data.presentedFrames])
    video.requestVideoFrameCallback(look)
    if (!window.isLooking) return
    paint.drawImage(video, video.videoWidth / 3, video.videoHeight / 3, 1, 1, 0, 0, 1, 1)
    const level = paint.getImageData(0, 0, 1, 1).data[0]
    if (window.level === null || Math.abs(level - window.level) > 25) window.changes.push([performance.now(), level])
    window.level = level
  }
  video.requestVideoFrameCallback(look)
}"""
NEAR = "wanted => window.level !== null && Math.abs(window.level - wanted) < 12"


@dataclass
class Program:
    """A server that runs: its address with the token, its process, its folders."""

    address: str
    pid: int
    folder: Path


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Program]:
    """The real program with the testing nodes, workflows, a clip, and a folder for recordings."""
    for name in ("packs", "clips", "recorded"):
        (folder / name).mkdir()
    shutil.copytree(PACK, folder / "packs" / PACK.name)
    for name, graph in WORKFLOWS.items():
        (folder / f"{name}.json").write_text(json.dumps(graph))
    _write_clip(folder / "clips" / "grey.mp4")
    main = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    places = ["--nodes", "packs", "--workflows", ".", "--sources", "clips", "--recordings", "recorded"]
    command = [sys.executable, "-P", "-c", main, "serve", "--port", "0", "--max-sessions", "20", *places, *options]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
        try:
            assert process.stdout is not None
            address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
            yield Program(address, process.pid, folder)
        finally:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.terminate()  # viewers are waited for, whose browser is gone; a second signal ends at once
                process.wait(30)


def _write_clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", 25, options={"bf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(25):
            image = picture(CLIP_GREY, 64, 48)
            image.pts, image.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(image.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


@dataclass
class Browser:
    """A browser; errors of its pages and calls to elsewhere are kept, to be found at the end."""

    context: Any
    errors: list[str] = field(default_factory=list)

    def open(self, address: str, width: int = 1280, height: int = 860) -> Any:
        """A page of the server, loaded."""
        page = self.context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(30_000)
        own = address.split("/?")[0].split("#")[0].rstrip("/")
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "request",
            lambda r: r.url.startswith((own, "data:", "blob:")) or self.errors.append(f"asked for {r.url}"),
        )
        page.goto(address)
        return page

    def connected(self, address: str, workflow: str = "level", level: int = 51) -> Any:
        """A page that is connected, runs a workflow and is watched."""
        page = self.open(address)
        page.wait_for_function("window.comfystream?.loaded")
        page.click("#connect")
        page.wait_for_function("window.comfystream.ready")
        page.select_option("#workflow", workflow)
        page.evaluate(WATCH)
        page.wait_for_function(NEAR, arg=level)
        return page
