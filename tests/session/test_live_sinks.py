"""Recordings and pushes of a live session, with real files and a real receiver."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from engine_harness import picture
from live_harness import Watched, live
from on_loop import on_loop, until

from comfystream.errors import ConfigError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_sink_state import SinkChanged, SinkRules, SinkState, SinkStats
from comfystream.session.live_sinks import NoSuchSink

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="NEEDS ffmpeg: apt-get install ffmpeg")
FLASH_S, FLASH_LONG_S = 2.0, 0.4
DARK, BRIGHT = 60, 220


@asynccontextmanager
async def show(session: LiveSession, *, has_sound: bool = True, has_pictures: bool = True) -> AsyncIterator[None]:
    """A camera at 25 pictures a second: dark and silent but for a flash with a tone in every fourth second."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(100_000):
            at_s = number * 0.02
            await asyncio.sleep(max(0.0, began + at_s - loop.time()))
            flashes = FLASH_S <= at_s % 4 < FLASH_S + FLASH_LONG_S
            if has_sound:
                tone = np.sin(np.arange(960) / 12)[None].astype(np.float32) * (0.7 if flashes else 0)
                session.submit(AudioFrame(0, number * 960, Fraction(1, 48_000), tone, 48_000))
            if has_pictures and number % 2 == 0:
                image = picture(BRIGHT if flashes else DARK, 64, 48)
                session.submit(VideoFrame(0, number * 20, Fraction(1, 1000), image))

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def stats_of(watched: Watched, id: str) -> SinkStats:
    return next(one for one in watched.session.sinks.stats() if one.sink == id)


def states_of(watched: Watched, id: str) -> list[SinkState]:
    return [event.state for event in watched.events_of(SinkChanged) if event.sink == id]


class Played:
    """What is in a file."""

    def __init__(self, path: Path) -> None:
        self.times: list[float] = []
        self.greys: list[int] = []
        self.sizes: set[tuple[int, int]] = set()
        sounds: list[tuple[float, Any]] = []
        with av.open(str(path)) as container:
            self.kinds = {stream.type: stream.codec_context.name for stream in container.streams}
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    self.times.append(float(frame.time))
                    self.greys.append(int(frame.to_ndarray(format="rgb24")[24, 32, 0]))
                    self.sizes.add((frame.width, frame.height))
                else:
                    sounds.append((float(frame.time), frame.to_ndarray()[0]))
        self.flash_s = next((at_s for at_s, g in zip(self.times, self.greys, strict=True) if g > 150), None)
        loud = [(at_s, samples) for at_s, samples in sounds if np.abs(samples).max() > 0.2]
        self.tone_s = loud[0][0] + int(np.argmax(np.abs(loud[0][1]) > 0.2)) / 48_000 if loud else None


@on_loop
async def test_a_recording_has_the_pictures_and_the_sound_in_their_places(tmp_path: Path) -> None:
    async with live(None) as watched, show(watched.session):
        id = watched.session.sinks.add(SinkRules(tmp_path).recording("x", "take one"))
        await until(lambda: stats_of(watched, id).frames > 70, "frames")
        assert watched.session.alone_s == 0  # the recording is somebody
        await watched.session.sinks.remove(id)
        assert watched.session.alone_s > 0
        assert states_of(watched, id) == [SinkState.STARTING, SinkState.RUNNING, SinkState.ENDED]
    played = Played(tmp_path / "take one.mp4")
    assert played.kinds == {"video": "h264", "audio": "aac"}
    assert min(played.greys) == pytest.approx(DARK, abs=6)
    assert max(played.greys) == pytest.approx(BRIGHT, abs=6)
    assert played.flash_s is not None
    assert played.tone_s == pytest.approx(played.flash_s, abs=0.045)


@on_loop
async def test_two_sinks_at_once_and_the_end_of_the_session_completes_them(tmp_path: Path) -> None:
    async with live(None) as watched, show(watched.session, has_sound=False):
        ids = [watched.session.sinks.add(SinkRules(tmp_path).recording("x", name)) for name in ("a", "b")]
        await until(lambda: all(stats_of(watched, id).frames > 5 for id in ids), "frames")
    assert [states_of(watched, id)[-1] for id in ids] == [SinkState.ENDED] * 2
    for name in ("a", "b"):
        played = Played(tmp_path / f"{name}.mp4")
        assert played.kinds == {"video": "h264"}
        assert len(played.times) > 5


@on_loop
async def test_sound_alone(tmp_path: Path) -> None:
    async with live(None) as watched, show(watched.session, has_pictures=False):
        id = watched.session.sinks.add(SinkRules(tmp_path).recording("x", "a"))
        await until(lambda: stats_of(watched, id).frames > 10, "sound")
    assert Played(tmp_path / "a.mp4").kinds == {"audio": "aac"}


def test_names_stay_inside_the_folder_and_nothing_is_overwritten(tmp_path: Path) -> None:
    rules = SinkRules(tmp_path)
    for name in ("../a", "a/b", "/etc/a", "..", ".hidden", "a\0b", "a\n", "~", " a", "a."):
        with pytest.raises(ConfigError, match="cannot name"):
            rules.recording("x", name)
    (tmp_path / "there.mp4").touch()
    with pytest.raises(ConfigError, match="exists already"):
        rules.recording("x", "there")
    first = rules.recording("x").path
    first.touch()
    assert rules.recording("x").path != first
    assert first.parent == tmp_path
    with pytest.raises(ConfigError, match="recording_folder"):
        SinkRules().recording("x", "a")


@on_loop
async def test_a_vanished_folder_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    async with live(None) as watched, show(watched.session):
        id = watched.session.sinks.add(SinkRules(folder).recording("x", "a"))
        await until(lambda: stats_of(watched, id).state is SinkState.RUNNING, "the recording")
        shutil.rmtree(folder)
        await until(lambda: stats_of(watched, id).state is SinkState.FAILED, "the failure")
        assert "removed" in stats_of(watched, id).reason
        before = len(watched.pictures)
        await until(lambda: len(watched.pictures) > before + 3, "more pictures")
        late = watched.session.sinks.add(SinkRules(folder).recording("x", "b"))
        await until(lambda: stats_of(watched, late).state is SinkState.FAILED, "the failure")


@on_loop
async def test_a_sink_that_is_not_there(tmp_path: Path) -> None:
    async with live(None) as watched:
        with pytest.raises(NoSuchSink):
            await watched.session.sinks.remove("record-9")


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def receiver(url: str, target: Path, *options: str) -> subprocess.Popen[bytes]:
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-y", *options, "-i", url, "-c", "copy", "-f", "matroska", str(target)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def commands() -> str:
    """What everybody on this machine can read of our processes."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(lines)


@needs_ffmpeg
@pytest.mark.slow
@on_loop
async def test_a_push_by_rtmp_comes_back_after_its_receiver_was_gone(tmp_path: Path, port: int) -> None:
    url = f"rtmp://127.0.0.1:{port}/live/secret-key"
    async with live(None) as watched, show(watched.session):
        id = watched.session.sinks.add(SinkRules(None, [url]).push(url, 800))
        await until(lambda: stats_of(watched, id).state is SinkState.RECONNECTING, "the first try")
        assert "refused" in stats_of(watched, id).reason
        first = receiver(url, tmp_path / "first.mkv", "-listen", "1")
        await until(lambda: stats_of(watched, id).state is SinkState.RUNNING, "the connection")
        await until(lambda: stats_of(watched, id).frames > 50, "pictures")
        first.kill()
        first.wait()
        assert f"127.0.0.1:{port}/live" in (seen := commands())
        assert "secret-key" not in seen
        await until(lambda: stats_of(watched, id).state is SinkState.RECONNECTING, "the loss")
        second = receiver(url, tmp_path / "second.mkv", "-listen", "1")
        await until(lambda: stats_of(watched, id).state is SinkState.RUNNING, "the next connection")
        before = stats_of(watched, id).frames
        await until(lambda: stats_of(watched, id).frames > before + 130, "a flash")
        await watched.session.sinks.remove(id)
        assert await asyncio.to_thread(second.wait, 20) == 0
        assert not any("secret" in repr(event) for event in watched.events_of(SinkChanged))
    played = Played(tmp_path / "second.mkv")
    assert played.kinds == {"video": "h264", "audio": "aac"}
    assert played.flash_s is not None
    assert played.tone_s == pytest.approx(played.flash_s, abs=0.06)


@needs_ffmpeg
@pytest.mark.slow
@on_loop
async def test_a_push_by_srt_without_sound_has_silence(tmp_path: Path, port: int) -> None:
    url = f"srt://127.0.0.1:{port}?passphrase=not+for+everybody&streamid=our-key"
    async with live(None) as watched, show(watched.session, has_sound=False):
        options = ("-passphrase", "not for everybody", "-mode", "listener")
        peer = receiver(f"srt://127.0.0.1:{port}", tmp_path / "got.mkv", *options)
        id = watched.session.sinks.add(SinkRules(None, ["srt://127.0.0.1:*"]).push(url, 800))
        await until(lambda: stats_of(watched, id).frames > 120, "pictures")
        seen = commands()
        assert "not+for+everybody" not in seen
        assert "our-key" not in seen
        await watched.session.sinks.remove(id)
        await asyncio.to_thread(peer.wait, 20)
    played = Played(tmp_path / "got.mkv")
    assert played.kinds == {"video": "h264", "audio": "aac"}
    assert max(played.greys) == pytest.approx(BRIGHT, abs=8)
    assert played.tone_s is None


@needs_ffmpeg
@on_loop
async def test_a_receiver_that_takes_nothing_does_not_hold_the_end(port: int) -> None:
    deaf = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port)
    url = f"rtmp://127.0.0.1:{port}/live/key"
    async with live(None) as watched, show(watched.session):
        id = watched.session.sinks.add(SinkRules(None, ["rtmp://127.0.0.1:*"]).push(url, 800))
        await until(lambda: stats_of(watched, id).size > 0, "the beginning")
        async with asyncio.timeout(15):
            await watched.session.sinks.remove(id)
    deaf.close()
