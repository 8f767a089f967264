"""The RTMP port with the real ffmpeg as its publisher: what is sent is what the session puts out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import sys
import threading
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from app_harness import App, app_with
from engine_harness import fill, grey, picture
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.push_writer import PushWriter
from comfystream.session.live import LiveSession
from comfystream_server.app import rtmp_key
from comfystream_server.rtmp.listener import RtmpListener

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="NEEDS ffmpeg: apt-get install ffmpeg")
FLASH = "lt(mod(t-1\\,2)\\,0.4)*gt(t\\,0.9)"


def flashes(*codec: str) -> list[str]:
    """Dark and silent, with a flash and a tone of 0.4 s that begin together at 1, 3, 5 ... seconds."""
    picture = "color=c=0x303030:s=160x120:r=25[dark];color=c=0xd0d0d0:s=160x120:r=25[bright];"
    picture += f"[dark][bright]overlay=enable='{FLASH}'[out0];"
    sound = f"aevalsrc=exprs='0.7*sin(2*PI*1000*t)*{FLASH}':s=48000:c=mono[out1]"
    video = codec or ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0")
    return ["-re", "-f", "lavfi", "-i", picture + sound, *video, "-pix_fmt", "yuv420p", "-c:a", "aac"]


@contextlib.asynccontextmanager
async def ffmpeg(url: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", *(arguments or flashes()), "-f", "flv", url]
    none, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=none, stderr=pipe)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def listening(engine: ChildEngine | None, **settings: Any) -> AsyncIterator[tuple[App, RtmpListener]]:
    async with app_with(engine, **settings) as app:
        listener = app.client.server.app[rtmp_key]
        await listener.start("127.0.0.1", 0)
        yield app, listener


class Seen:
    """What a session puts out."""

    def __init__(self, session: LiveSession) -> None:
        self.pictures: list[tuple[float, int]] = []
        self.sounds: list[tuple[float, float, int]] = []
        self._task = asyncio.create_task(self._watch(session))

    async def _watch(self, session: LiveSession) -> None:
        async with session.subscribe() as frames:
            async for frame in frames:
                at_s = float(frame.pts * frame.time_base)
                if isinstance(frame, VideoFrame):
                    self.pictures.append((at_s, grey(frame)))
                elif isinstance(frame, AudioFrame):
                    loud = np.abs(frame.samples[0]) > 0.3
                    self.sounds.append((at_s, float(loud.any()), int(loud.argmax())))

    def offset_s(self) -> float:
        """How much later than its flash a tone begins."""
        flash = _onset([(at_s, value > 120) for at_s, value in self.pictures])
        tone = _onset([(at_s + first / 48_000, bool(loud)) for at_s, loud, first in self.sounds])
        near = min(tone, key=lambda at_s: abs(at_s - flash[0]))
        return near - flash[0]


def _onset(samples: list[tuple[float, bool]]) -> list[float]:
    return [at_s for (_, was), (at_s, is_on) in zip(samples, samples[1:], strict=False) if is_on and not was]


def session_of(app: App, name: str) -> LiveSession | None:
    return next((session for session in app.parts.sessions if session.id == name), None)


@on_loop
async def test_a_publisher_makes_a_session_and_its_pictures_and_sound_come_out() -> None:
    async with listening(None) as (app, listener), ffmpeg(f"rtmp://127.0.0.1:{listener.port}/live/studio"):
        session = await until(lambda: session_of(app, "studio"), "the session")
        assert session.source == "rtmp publisher"
        assert session.viewers == 1
        seen = Seen(session)
        await until(lambda: seen.pictures and seen.pictures[-1][0] > 3.2, "the second flash")
        values = [value for _, value in seen.pictures]
        assert min(values) == pytest.approx(0x30, abs=5)
        assert max(values) == pytest.approx(0xD0, abs=5)
        assert abs(seen.offset_s()) < 0.06
        steps = np.diff([at_s for at_s, _ in seen.pictures])
        assert np.median(steps) == pytest.approx(0.04, abs=0.002)


@on_loop
async def test_one_that_dies_gives_its_place_back_and_may_return() -> None:
    async with listening(None) as (app, listener):
        url = f"rtmp://127.0.0.1:{listener.port}/live/studio"
        async with ffmpeg(url):
            session = await until(lambda: session_of(app, "studio"), "the session")
            await until(lambda: session.newest, "a picture")
        await until(lambda: not session.source, "the place to be free")
        assert session.viewers == 0
        before = session.counts().frames_in
        async with ffmpeg(url):
            await until(lambda: session.counts().frames_in > before + 5, "more pictures")
        assert session_of(app, "studio") is session


@on_loop
async def test_the_newest_publisher_of_a_name_takes_over() -> None:
    async with listening(None) as (app, listener):
        url = f"rtmp://127.0.0.1:{listener.port}/live/studio"
        async with ffmpeg(url) as first:
            session = await until(lambda: session_of(app, "studio"), "the session")
            await until(lambda: session.newest, "a picture")
            white = ["-re", "-f", "lavfi", "-i", "color=c=white:s=160x120:r=25", "-c:v", "libx264", "-g", "25"]
            async with ffmpeg(url, *white, "-preset", "ultrafast", "-pix_fmt", "yuv420p"):
                await until(lambda: grey(session.newest) > 230, "the other's picture")
                async with asyncio.timeout(20):
                    await first.wait()
                assert session.viewers == 1
                assert session.source == "rtmp publisher"


@on_loop
async def test_off_loopback_the_operators_token_is_asked_for() -> None:
    settings = {"host": "0.0.0.0", "token": "secret", "viewer_token": "look"}
    async with listening(None, **settings) as (app, listener):
        for query in ("", "?token=look", "?token=secrets"):
            async with ffmpeg(f"rtmp://127.0.0.1:{listener.port}/live/studio{query}") as refused:
                async with asyncio.timeout(20):
                    _, said = await refused.communicate()
                assert refused.returncode != 0
                assert b"token is wrong or missing" in said
        assert session_of(app, "studio") is None
        async with ffmpeg(f"rtmp://127.0.0.1:{listener.port}/live/studio?token=secret"):
            await until(lambda: session_of(app, "studio"), "the session")


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("live/no.name", b"cannot name a session"),
        ("other/studio", b"no application"),
        ("live/studio?workflow=edgse", b"no workflow"),
    ],
)
@on_loop
async def test_a_refusal_says_why_in_the_publishers_own_log(rtmp_engine: ChildEngine, place: str, why: bytes) -> None:
    async with listening(rtmp_engine) as (app, listener):
        async with ffmpeg(f"rtmp://127.0.0.1:{listener.port}/{place}") as refused:
            async with asyncio.timeout(30):
                _, said = await refused.communicate()
        assert refused.returncode != 0
        assert why in said
        assert len(app.parts.sessions) == 0


@on_loop
async def test_the_workflow_that_is_named_runs(rtmp_engine: ChildEngine) -> None:
    async with listening(rtmp_engine) as (app, listener):
        url = f"rtmp://127.0.0.1:{listener.port}/live/studio?workflow=edges"
        async with ffmpeg(url):
            session = await until(lambda: session_of(app, "studio"), "the session")
            await until(lambda: session.workflow is not None and session.counts().frames_out, "pictures")
            status, info = await app.json("GET", "/api/v1/sessions/studio")
            assert (status, info["name"]) == (200, "edges")


@on_loop
async def test_in_by_rtmp_and_out_as_a_recording_through_a_workflow(rtmp_engine: ChildEngine, tmp_path: Path) -> None:
    async with listening(rtmp_engine, recording_folder=str(tmp_path)) as (app, listener):
        session = await app.parts.sessions.create(app.parts.options, id="studio")
        control = "/api/v1/sessions/studio/control"
        assert (await app.json("POST", control, {"type": "set_workflow", "workflow": fill(0.75)}))[0] == 200
        async with ffmpeg(f"rtmp://127.0.0.1:{listener.port}/live/studio"):
            await until(lambda: session.newest, "a picture")
            add = {"type": "add_sink", "sink": {"type": "record", "name": "take"}}
            status, reply = await app.json("POST", control, add)
            assert (status, reply["sink"]) == (200, "record-1")
            assert (await app.json("POST", control, add))[1]["error"]["code"] == "exists"
            sinks = session.sinks
            await until(lambda: sinks.stats()[0].frames > 30, "the recording")
            _, described = await app.json("GET", "/api/v1/sessions/studio")
            assert described["sinks"][0]["state"] == "running"
            assert (await app.json("POST", control, {"type": "remove_sink", "sink": "record-1"}))[0] == 200
            assert (await app.json("POST", control, {"type": "remove_sink", "sink": "record-7"}))[0] == 404
    with av.open(str(tmp_path / "take.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24")[60, 80, 0] for frame in container.decode(video=0)]
    assert len(shown) > 20
    assert shown[-1] == pytest.approx(191, abs=6)


@on_loop
async def test_a_codec_that_is_not_known_costs_only_its_own_pictures() -> None:
    sorenson = flashes("-c:v", "flv")
    async with listening(None) as (app, listener), ffmpeg(f"rtmp://127.0.0.1:{listener.port}/live/old", *sorenson):
        session = await until(lambda: session_of(app, "old"), "the session")
        seen = Seen(session)
        await until(lambda: len(seen.sounds) > 20, "sound")
        assert not seen.pictures


@on_loop
async def test_a_peer_that_says_nothing_or_nonsense_is_closed() -> None:
    async with listening(None) as (app, listener):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        silent, closing = await asyncio.open_connection("127.0.0.1", listener.port)
        async with asyncio.timeout(20):
            assert await silent.read() == b""
        closing.close()


@on_loop
async def test_the_end_of_the_session_ends_its_publisher() -> None:
    async with listening(None) as (app, listener):
        url = f"rtmp://127.0.0.1:{listener.port}/live/studio"
        async with ffmpeg(url) as publisher:
            session = await until(lambda: session_of(app, "studio"), "the session")
            await until(lambda: session.newest, "a picture")
            await app.parts.sessions.end("studio", "test")
            async with asyncio.timeout(20):
                await publisher.wait()


CODECS = [
    ("libx264", {"preset": "ultrafast", "bf": "2"}, "aac"),
    ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}, "libopus"),
    ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"}, "aac"),
    ("libsvtav1", {"preset": "10", "svtav1-params": "pred-struct=1:lookahead=0"}, "aac"),
]


@on_loop
async def test_the_key_of_a_push_arrives_whole() -> None:
    async with listening(None, token="boss") as (app, listener):
        url = f"rtmp://127.0.0.1:{listener.port}/live/studio?token=boss"
        writer = PushWriter(url, 500, frozenset({"video"}))

        def push() -> None:
            for number in itertools.count():
                if is_over.wait(0.04):
                    return
                frame = VideoFrame(number, number, Fraction(1, 25), picture(60, 64, 48))
                writer.write(frame, number * 40_000_000)

        is_over = threading.Event()
        pushing = asyncio.get_running_loop().run_in_executor(None, push)
        try:
            session = await until(lambda: session_of(app, "studio"), "the session of that name, with the token")
            await until(lambda: session.source == "rtmp publisher", "its pictures")
        finally:
            is_over.set()
            await pushing
            await asyncio.to_thread(writer.close)


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "options", "sound"), CODECS, ids=["b-frames", "opus", "hevc", "av1"])
@on_loop
async def test_newer_codecs_by_enhanced_rtmp(codec: str, options: dict[str, str], sound: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"NEEDS a PyAV with {codec}")
    async with listening(None) as (app, listener):
        url = f"rtmp://127.0.0.1:{listener.port}/live/studio"
        script = str(Path(__file__).with_name("publisher.py"))
        arguments = [sys.executable, "-P", script, url, codec, json.dumps(options), sound]
        publisher = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.DEVNULL)
        session = await until(lambda: session_of(app, "studio"), "the session")
        seen = Seen(session)
        assert await publisher.wait() == 0
        await until(lambda: not session.source, "the end of the stream")
    values = [value for _, value in seen.pictures]
    assert min(values) == pytest.approx(40, abs=6)
    assert max(values) == pytest.approx(200, abs=6)
    assert abs(seen.offset_s()) < 0.06
