"""RTMP into the gateway with the real ffmpeg: into a stream that an app started, and by an address that starts one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway_harness import Network, network, worker
from on_loop import on_loop, until
from whip_ends import watching
from worker_harness import Invert

from comfystream_server.gateway.app import rtmp_key
from comfystream_server.gateway.rtmp import GatewayRtmp

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="NEEDS ffmpeg: apt-get install ffmpeg")


@contextlib.asynccontextmanager
async def taking_rtmp(**options: Any) -> AsyncIterator[tuple[Network, GatewayRtmp]]:
    async with network(**options) as net:
        rtmp = net.app[rtmp_key]
        rtmp.base = net.url
        await rtmp.start("127.0.0.1", 0)
        yield net, rtmp


@contextlib.asynccontextmanager
async def sending(url: str, grey: int = 200) -> AsyncIterator[asyncio.subprocess.Process]:
    """A grey picture and a tone, as OBS sends them."""
    assert FFMPEG is not None
    colour = f"0x{grey:02x}{grey:02x}{grey:02x}"
    source = f"color=c={colour}:s=96x64:r=25[out0];sine=frequency=440:sample_rate=48000[out1]"
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "aac")
    command = [FFMPEG, "-v", "error", "-re", "-f", "lavfi", "-i", source, *codecs, "-f", "flv", url]
    none, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=none, stderr=pipe)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@on_loop
async def test_what_obs_sends_goes_through_the_worker_and_out_by_whep() -> None:
    async with taking_rtmp() as (net, rtmp), worker(net) as one:
        reply = await net.start("show", params={"width": 96, "height": 64})
        assert reply["rtmp_url"] == f"rtmp://127.0.0.1:{rtmp.port}/{reply['stream_id']}"
        async with watching(net.session, reply["whep_url"]) as viewer:
            async with sending(reply["rtmp_url"]):
                await until(lambda: viewer.shown is not None and abs(viewer.shown - 55) < 12, "the inverted picture")
                status = (await net.call("GET", reply["status_url"]))[1]
                assert status["ingest_metrics"]["stats"]["source"] == "rtmp"
                assert status["ingest_metrics"]["stats"]["frames"]["audio"] > 0
                async with sending(f"rtmp://127.0.0.1:{rtmp.port}/live/show", 60):  # by its name, with OBS's two fields
                    await until(lambda: abs(viewer.shown - 195) < 12, "the other publisher's picture")
            assert (await net.call("POST", reply["stop_url"]))[0] == 200
        await one.until_idle()
        assert net.channels == []


@on_loop
async def test_an_address_with_a_capability_starts_the_stream() -> None:
    processor = Invert()
    async with taking_rtmp() as (net, rtmp), worker(net, processor):
        query = "?capability=test&width=96&height=64&workflow=invert"
        async with sending(f"rtmp://127.0.0.1:{rtmp.port}/live/obs{query}"):
            url = f"{net.url}/process/stream/obs/whep"
            await until(lambda: any(stream.id == "obs" for stream in net.gateway.streams), "the stream")
            async with watching(net.session, url) as viewer:
                await until(lambda: viewer.shown is not None and abs(viewer.shown - 55) < 12, "the inverted picture")
        params = processor.params[0]
        assert (params["width"], params["height"], "prompts" in params) == (96, 64, True)
        (stream,) = net.gateway.streams
        await until(lambda: not stream.status()["ingest_metrics"]["stats"], "the publisher's end")
        assert (await net.call("POST", f"{net.url}/process/stream/obs/stop"))[0] == 200


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("live/nothing", "there is no stream"),
        ("other/nothing", "names no stream"),
        ("live", "there is no stream"),
        ("live/a?capability=none", "no worker for"),
        ("live/a?capability=test&workflow=none", "there is no workflow"),
        ("live/a?capability=test&width=wide", "is no number"),
    ],
)
@on_loop
async def test_a_refusal_says_why_in_the_publishers_log(place: str, words: str) -> None:
    async with taking_rtmp() as (net, rtmp), worker(net):
        async with sending(f"rtmp://127.0.0.1:{rtmp.port}/{place}") as refused:
            async with asyncio.timeout(20):
                _, said = await refused.communicate()
        assert refused.returncode != 0
        assert words in said.decode(), said
        assert not net.gateway.streams


@on_loop
async def test_keys_are_asked_of_who_starts_a_stream_by_rtmp() -> None:
    async with taking_rtmp(keys=("k3y",)) as (net, rtmp), worker(net):
        url = f"rtmp://127.0.0.1:{rtmp.port}/live/obs?capability=test"
        async with sending(url) as refused:
            async with asyncio.timeout(20):
                _, said = await refused.communicate()
        assert b"a key is needed" in said
        async with sending(f"{url}&key=k3y"):
            await until(lambda: net.gateway.streams, "the stream")


@on_loop
async def test_a_stream_that_takes_no_pictures_has_no_rtmp_address_and_its_end_sends_publishers_away() -> None:
    async with taking_rtmp() as (net, rtmp), worker(net, capacity=2):
        reply = await net.start("data", enable_video_ingress=False)
        assert reply["rtmp_url"] == ""
        async with sending(f"rtmp://127.0.0.1:{rtmp.port}/{reply['stream_id']}") as refused:
            async with asyncio.timeout(20):
                _, said = await refused.communicate()
        assert b"takes no pictures" in said
        reply = await net.start("show")
        async with sending(reply["rtmp_url"]) as publisher:
            (stream,) = [one for one in net.gateway.streams if one.id == reply["stream_id"]]
            await until(lambda: stream.status()["frames"]["out"], "pictures")
            assert (await net.call("POST", reply["stop_url"]))[0] == 200
            async with asyncio.timeout(20):
                await publisher.wait()
