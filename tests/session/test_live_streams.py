"""A session that reads streams: a camera that goes away and comes back, a listener that waits for its sender."""

from __future__ import annotations

import asyncio
import socket

import pytest
from on_loop import on_loop, until
from senders import ffmpeg_sender, free_port, rtsp_camera

from comfystream.engine.protocol import Engine
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.source_rules import SourceRules

RULES = SourceRules(allowed=["*://127.0.0.1:*".replace("*", scheme, 1) for scheme in ("rtsp", "srt", "udp")])


def _never() -> Engine:
    raise AssertionError("the engine was touched")


@pytest.mark.slow
@on_loop
async def test_a_camera_that_was_unplugged_is_found_again() -> None:
    port = free_port()
    session = LiveSession("s", EngineHost(_never))
    with rtsp_camera(port) as (process, _):
        await session.set_source(RULES.url(f"rtsp://127.0.0.1:{port}/camera"))
        await until(lambda: session.counts().frames_in > 10, "pictures")
        process.kill()
        process.wait()
        await until(lambda: session.chosen.state == "reconnecting", "the loss")
        assert "127.0.0.1" in session.chosen.reason
    seen = session.counts().frames_in
    with rtsp_camera(port):
        await until(lambda: session.chosen.state == "running", "the camera")
        await until(lambda: session.counts().frames_in > seen + 10, "its pictures")
    await session.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["srt", "udp"])
@on_loop
async def test_a_listener_waits_for_its_sender(scheme: str) -> None:
    port = free_port(socket.SOCK_DGRAM)
    address = f"{scheme}://127.0.0.1:{port}"
    session = LiveSession("s", EngineHost(_never))
    await session.set_source(RULES.url(f"{address}?mode=listener" if scheme == "srt" else address))
    assert (session.chosen.state, session.source) == ("opening", address)
    with ffmpeg_sender("-f", "mpegts", f"{address}?mode=caller" if scheme == "srt" else address) as sender:
        await until(lambda: session.counts().frames_in > 5 or sender.poll() is not None, "pictures")
        assert sender.poll() is None, "the sender gave up"
        assert session.chosen.state == "running"
    async with asyncio.timeout(10):
        await session.close()
