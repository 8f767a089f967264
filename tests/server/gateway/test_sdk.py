"""The published browser SDK, unmodified, on a page of another site against our gateway.

It is not on the package index. Who has its source gives a bundle of it:
`esbuild src/index.ts --bundle --format=esm --external:react --outfile=sdk.mjs`, and its path in BYOC_SDK.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gateway_harness import network, worker
from on_loop import on_loop
from worker_harness import Invert

CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
SDK = os.environ.get("BYOC_SDK", "")
playwright = pytest.importorskip("playwright.async_api", reason="needs playwright: pip install -e .[dev]")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}, or CHROMIUM_PATH"),
    pytest.mark.skipif(not SDK, reason="needs a bundle of the published SDK: BYOC_SDK=sdk.mjs (see the file)"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream=fps=20", "--use-fake-ui-for-media-stream"]
PAGE = """<!doctype html><video id="in" autoplay muted></video><video id="out" autoplay muted></video>
<script type="importmap">{"imports": {"react": "/react.mjs"}}</script>
<script type="module">
  import * as sdk from '/sdk.mjs'
  window.sdk = sdk
</script>"""
REACT = "export const useCallback = 0, useEffect = 0, useMemo = 0, useRef = 0, useState = 0"  # its hooks are not called
RUN = """async gateway => {
  const { Stream, StreamViewer, DataStreamClient, StreamConfig } = window.sdk
  const said = window.said = { data: [], errors: [], events: [] }
  const config = new StreamConfig({ gatewayUrl: gateway, iceServers: [] })
  const stream = window.stream = new Stream(config)
  for (const name of ['streamStarted', 'streamStopped', 'streamUpdated']) stream.on(name, () => said.events.push(name))
  stream.on('error', error => said.errors.push(String(error)))
  stream.on('mediaStreamReady', media => { document.getElementById('in').srcObject = media })
  const options = { streamName: 'app', pipeline: 'test', width: 320, height: 240, enableAudioIngress: false,
                    enableAudioEgress: false, useScreenShare: false }
  const started = await stream.start(options)
  const data = window.data = new DataStreamClient(config)
  data.on('data', item => said.data.push(item))
  await data.connect({ streamName: started.streamId, dataUrl: started.dataUrl })
  await stream.publish(options)
  const viewer = window.viewer = new StreamViewer(config)
  viewer.on('error', error => said.errors.push(String(error)))
  viewer.setVideoElement(document.getElementById('out'))
  await viewer.start({ whepUrl: started.whepUrl })
  return started
}"""
SIZE = "() => document.getElementById('out').videoWidth"
ENDED = """async () => {
  await window.viewer.stop()
  window.data.disconnect()
  await window.stream.stop()
  return window.said
}"""


class Talker(Invert):
    """Says something once."""

    async def process_video_async(self, frame: Any) -> Any:
        if self.pictures == 0:
            await self.send_data({"type": "greeting", "text": "hello"})
        return await super().process_video_async(frame)


async def site(code: str) -> web.AppRunner:
    """A site of its own, as an app's would be."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def module(request: web.Request) -> web.Response:
        text = REACT if request.path == "/react.mjs" else code
        return web.Response(text=text, content_type="text/javascript")

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/sdk.mjs", module), web.get("/react.mjs", module)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@on_loop
async def test_the_published_sdk_starts_publishes_watches_updates_listens_and_stops() -> None:
    runner = await site(await asyncio.to_thread(Path(SDK).read_text, "utf-8"))
    talker = Talker()
    try:
        async with network() as net, worker(net, talker) as one, playwright.async_playwright() as started:
            browser = await started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
            page = await browser.new_page()
            await page.goto(f"http://localhost:{runner.addresses[0][1]}/")
            await page.wait_for_function("window.sdk")
            reply = await page.evaluate(RUN, net.url)
            assert reply["streamId"].startswith("app-")
            await page.wait_for_function(SIZE)
            await page.wait_for_function("window.said.data.length > 0")
            assert await page.evaluate("window.stream.status()")
            await page.evaluate("window.stream.update({ params: { strength: 0.5 } })")
            assert talker.params[-1] == {"strength": 0.5}
            said = await page.evaluate(ENDED)
            assert said["errors"] == []
            assert said["events"] == ["streamStarted", "streamUpdated", "streamStopped"]
            await browser.close()
            await one.until_idle()
            assert net.channels == []
    finally:
        await runner.cleanup()
