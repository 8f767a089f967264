"""Programs of others against the running server: FFmpeg, GStreamer, aiortc as its examples use it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import whip_sender
from aiortc import AudioStreamTrack
from aiortc.contrib.media import MediaPlayer, MediaRecorder
from app_harness import App, Grey, app_with
from on_loop import on_loop, until
from peer_certificate import certificate
from whip_ends import publishing, watching

from comfystream.engine.child import ChildEngine
from comfystream.media.pattern import read_counter

pytestmark = pytest.mark.slow
GST_PEER = Path(__file__).parent.parent / "support" / "gst_peer.py"
CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
PYTHON = "/usr/bin/python3"  # the one that Debian's bindings are for
GST_PARTS = ("webrtcbin", "nicesrc", "videotestsrc", "x264enc", "vp8dec", "opusenc", "opusdec")
ASK = f"""
import gi
for name in ("Gst", "GstWebRTC", "GstSdp"):
    gi.require_version(name, "1.0")
from gi.repository import Gst, GstWebRTC, GstSdp
Gst.init(None)
raise SystemExit(" ".join(name for name in {GST_PARTS} if not Gst.ElementFactory.find(name)))
"""


@functools.cache
def missing_gst() -> str:
    """What GStreamer lacks for these tests; empty when all is there."""
    if not Path(PYTHON).exists():
        return f"there is no {PYTHON}"
    asked = subprocess.run([PYTHON, "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    return asked.stderr.strip().splitlines()[-1] if asked.returncode and asked.stderr.strip() else ""


@pytest.fixture
def _gstreamer() -> None:
    if why := missing_gst():
        packages = "gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0 python3-gi"
        pytest.skip(f"needs GStreamer ({why}): apt-get install {packages}")


class Program:
    """A process, and the lines that it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[list[str]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").split())

    def said(self, word: str) -> list[str]:
        """What followed this word, each time."""
        return [line[1] for line in self.lines if len(line) > 1 and line[0] == word]

    async def until(self, condition: Any, what: str) -> None:
        """Wait, and say what the program said if it does not come about."""
        try:
            await until(condition, what)
        except AssertionError:
            said = "\n".join(" ".join(line) for line in self.lines[-30:])
            raise AssertionError(f"{what} did not come about; it said:\n{said}") from None

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        await self.process.wait()
        await self._reading


@contextlib.asynccontextmanager
async def program(*command: str) -> AsyncIterator[Program]:
    pipe = asyncio.subprocess.PIPE
    out = asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=out)
    running = Program(process)
    try:
        yield running
    finally:
        await running.end()


def address(app: App, path: str) -> str:
    return str(app.client.make_url(path))


@on_loop
async def test_ffmpegs_whip_muxer(shared_engine: ChildEngine, tmp_path: Path) -> None:
    if "whip" not in av.formats_available:
        pytest.skip(f"PyAV {av.__version__} has no WHIP muxer; 18.1 has")
    async with app_with(shared_engine, token="let-me-in") as app:
        session = await app.parts.sessions.create(id="cam")
        numbers: list[int] = []

        async def look() -> None:
            async with session.subscribe() as frames:
                async for frame in frames:
                    if hasattr(frame, "image"):
                        numbers.append(read_counter(frame.image))

        looking = asyncio.create_task(look())
        sender = [sys.executable, whip_sender.__file__, address(app, "/whip/cam"), *certificate(tmp_path), "let-me-in"]
        async with program(*sender) as ffmpeg:
            async with watching(app.client, "/whep/cam", token="let-me-in") as viewer:
                await ffmpeg.until(lambda: viewer.counts["video"] > 5 and viewer.loudest > 1000, "pictures and sound")
                assert await asyncio.wait_for(ffmpeg.process.wait(), 20) == 0, ffmpeg.lines
            assert numbers[-1] >= whip_sender.PICTURES - 3
            assert numbers == sorted(numbers)
            await until(lambda: session.viewers == 0, "its DELETE")
        looking.cancel()
        await asyncio.wait([looking])


@pytest.mark.usefixtures("_gstreamer")
@on_loop
async def test_gstreamer_publishes(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine) as app,
        program(PYTHON, str(GST_PEER), "whip", address(app, "/whip/gst")) as gst,
    ):
        await gst.until(lambda: "connected" in gst.said("state"), "the connection")
        async with watching(app.client, "/whep/gst", "VP8") as viewer:
            await gst.until(lambda: viewer.shown is not None and viewer.shown > 200, "its white picture")
            await gst.until(lambda: viewer.loudest > 1000, "its ticks")


@pytest.mark.usefixtures("_gstreamer")
@on_loop
async def test_gstreamer_posts_without_candidates_and_patches_them_in(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine, token="boss") as app,
        program(PYTHON, str(GST_PEER), "trickle", address(app, "/whip/gst"), "boss") as gst,
    ):
        await gst.until(lambda: "connected" in gst.said("state"), "the connection")
        assert [line for line in gst.lines if line[:1] == ["posted"]] == [["posted", "201", "0"]]
        await gst.until(lambda: "204" in gst.said("patched"), "a candidate")
        assert set(gst.said("patched")) == {"204"}
        session = app.parts.sessions.get("gst")
        await gst.until(lambda: session.counts().frames_out > 5, "pictures")


@pytest.mark.usefixtures("_gstreamer")
@on_loop
async def test_gstreamer_watches(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine) as app,
        publishing(app.client, "/whip/stage", Grey(200), AudioStreamTrack()),
        program(PYTHON, str(GST_PEER), "whep", address(app, "/whep/stage")) as gst,
    ):
        await gst.until(lambda: len(gst.said("picture")) > 10 and len(gst.said("sound")) > 10, "pictures and sound")
        levels = [int(level) for level in gst.said("picture") if level.isdigit()]  # torn lines left out
        assert abs(np.median(levels) - 200) < 25


BROWSE = """async () => {
  const canvas = document.createElement('canvas'), paint = canvas.getContext('2d')
  let number = 0
  const draw = () => { paint.fillStyle = number++ % 2 ? '#fff' : '#eee'; paint.fillRect(0, 0, 300, 150) }
  const timer = setInterval(draw, 33)
  const ask = async (path, build) => {
    const pc = new RTCPeerConnection()
    build(pc)
    await pc.setLocalDescription()
    const headers = { 'Content-Type': 'application/sdp' }
    const response = await fetch(path, { method: 'POST', headers, body: pc.localDescription.sdp })
    if (response.status !== 201) throw new Error(await response.text())
    const place = response.headers.get('Location'), tag = response.headers.get('ETag')
    const lines = pc.localDescription.sdp.split('\\r\\n')
    const late = lines.filter(line => /^a=(ice-ufrag|ice-pwd|mid)/.test(line)).slice(0, 3)
    pc.onicecandidate = event => event.candidate?.candidate && fetch(place, {
      method: 'PATCH', body: [...late, `a=${event.candidate.candidate}`, ''].join('\\r\\n'),
      headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': tag } })
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() })
    return { pc, place }
  }
  const stream = canvas.captureStream(30)
  const out = await ask('/whip/tab', pc => pc.addTransceiver(stream.getVideoTracks()[0], { direction: 'sendonly' }))
  const back = await ask('/whep/tab', pc => pc.addTransceiver('video', { direction: 'recvonly' }))
  let frames = 0
  for (let i = 0; i < 150 && frames < 10; i++) {
    await new Promise(resolve => setTimeout(resolve, 200))
    for (const one of (await back.pc.getStats()).values()) {
      if (one.type === 'inbound-rtp') frames = one.framesDecoded || 0
    }
  }
  clearInterval(timer)
  const statuses = []
  for (const end of [back, out]) statuses.push((await fetch(end.place, { method: 'DELETE' })).status)
  return { frames, statuses }
}"""


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}, or CHROMIUM_PATH")
@on_loop
async def test_chromium_publishes_and_watches(shared_engine: ChildEngine) -> None:
    playwright = pytest.importorskip("playwright.async_api", reason="needs playwright: pip install -e .[dev]")
    async with app_with(shared_engine) as app, playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = await browser.new_page()
            await page.goto(address(app, "/"))
            found = await page.evaluate(BROWSE)
        finally:
            await browser.close()
        assert found["frames"] >= 10
        assert found["statuses"] == [200, 200]
        session = app.parts.sessions.get("tab")
        await until(lambda: session.viewers == 0, "both have left")


@on_loop
async def test_aiortcs_player_and_recorder_as_in_its_examples(shared_engine: ChildEngine, tmp_path: Path) -> None:
    """A file goes out by MediaPlayer and POST /offer, and what comes back is recorded by MediaRecorder."""
    from aiortc import RTCPeerConnection, RTCSessionDescription

    clip, copy = tmp_path / "clip.mp4", tmp_path / "copy.mp4"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(90):
            white = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 255, np.uint8), "rgb24")
            out.mux(stream.encode(white))
        out.mux(stream.encode(None))
    async with app_with(shared_engine) as app:
        pc, player, recorder = RTCPeerConnection(), MediaPlayer(str(clip), loop=True), MediaRecorder(str(copy))
        pc.addTrack(player.video)
        pc.on("track", recorder.addTrack)
        await pc.setLocalDescription(await pc.createOffer())
        offer = {"sdp": pc.localDescription.sdp, "type": pc.localDescription.type}
        status, answer = await app.json("POST", "/offer", {"prompts": None, "offer": offer})
        assert status == 200, answer
        await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        await recorder.start()
        session = app.parts.sessions.get(answer["session"])
        await until(lambda: session.counts().frames_out > 40, "pictures")
        await recorder.stop()
        await pc.close()
        player.video.stop()
    with av.open(str(copy)) as recorded:
        levels = [frame.to_ndarray(format="gray").mean() for frame in recorded.decode(video=0)]
    assert len(levels) > 10
    assert np.median(levels) > 200
