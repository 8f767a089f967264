"""Streams and files from the network, from real servers and senders."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clip_file import write_clip
from on_loop import on_loop
from senders import ffmpeg_sender, free_port, rtsp_camera

from comfystream.errors import MediaError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media import relay, url_source
from comfystream.media.url_source import UrlSource


class Asked(list[str]):
    """Whom a source asked whether it may open an address; what is in `refused` may not be."""

    refused = "nothing"

    def __call__(self, url: str) -> None:
        self.append(urlsplit(url).path)
        if self.refused in url:
            raise MediaError("that is not on the list", code="url_not_allowed")


@contextlib.asynccontextmanager
async def _site(folder: Path) -> AsyncIterator[TestServer]:
    """A web server of a folder's files; /away leads to /clip.mp4 and /stuck never ends."""

    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound("/clip.mp4")

    async def stuck(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write((folder / "clip.ts").read_bytes())
        await ended.wait()
        return response

    async def end(app: web.Application) -> None:
        ended.set()

    ended = asyncio.Event()
    app = web.Application()
    app.on_shutdown.append(end)
    app.add_routes([web.get("/away", away), web.get("/stuck", stuck), web.static("/", folder)])
    async with TestServer(app) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of two seconds as MP4 with its index at the end, as MPEG-TS, and as HLS; playlists that name too much."""
    folder = tmp_path_factory.mktemp("site")
    write_clip(folder / "clip.mp4", frames=50, gop=25)
    _remux(folder / "clip.mp4", folder / "clip.ts", {}, "mpegts")
    _remux(folder / "clip.mp4", folder / "list.m3u8", {"hls_time": "1", "hls_playlist_type": "vod"}, "hls")
    for name, address in (
        ("file.m3u8", f"file://{folder}/clip.ts"),
        ("path.m3u8", f"{folder}/clip.ts"),
        ("concat.m3u8", f"concat:{folder}/clip.ts"),
        ("other.m3u8", "http://127.0.0.1:9/clip.ts"),
    ):
        (folder / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{address}\n#EXT-X-ENDLIST\n")
    (folder / "page.html").write_text("<html>no film</html>")
    return folder


def _remux(source: Path, target: Path, options: dict[str, str], kind: str) -> None:
    with av.open(str(source)) as read, av.open(str(target), "w", format=kind, options=options) as write:
        streams = {stream.index: write.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                write.mux(packet)


def _read(url: str, asked: Asked, most: int = 10_000) -> tuple[UrlSource, list[VideoFrame | AudioFrame]]:
    source = UrlSource(url, "stream", asked)
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == most:
            break
    source.close()
    return source, frames


def _pictures(frames: list[VideoFrame | AudioFrame]) -> list[float]:
    return [float(frame.pts * frame.time_base) for frame in frames if isinstance(frame, VideoFrame)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts", "list.m3u8", "away"])
@on_loop
async def test_files_and_playlists_come_whole(folder: Path, name: str) -> None:
    asked = Asked()
    async with _site(folder) as site:
        source, frames = await asyncio.to_thread(_read, str(site.make_url(f"/{name}")), asked)
    times = _pictures(frames)
    assert len(times) == 50
    assert times == sorted(set(times))
    assert 0 <= times[0] < 0.1
    assert any(isinstance(frame, AudioFrame) for frame in frames)
    assert asked[0] == f"/{name}"
    if name == "away":
        assert asked[1] == "/clip.mp4"
    if name == "list.m3u8":
        assert {"/list0.ts", "/list1.ts"} <= set(asked)
    if name in ("clip.mp4", "list.m3u8"):
        assert source.info.duration_s == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", ["file.m3u8", "path.m3u8", "concat.m3u8", "other.m3u8"])
@on_loop
async def test_a_playlist_cannot_lead_elsewhere(folder: Path, name: str) -> None:
    asked = Asked()
    asked.refused = "127.0.0.1:9/"
    async with _site(folder) as site:
        with pytest.raises((MediaError, NetworkError)):
            await asyncio.to_thread(_read, str(site.make_url(f"/{name}")), asked)


@on_loop
async def test_a_live_playlist_that_stands_still_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_source, "SEGMENTS_S", 2.0)
    live = (folder / "list.m3u8").read_text().replace("#EXT-X-ENDLIST", "").replace("TYPE:VOD", "TYPE:EVENT")
    (folder / "live.m3u8").write_text(live)
    async with _site(folder) as site:
        with pytest.raises(NetworkError, match="nothing new|in time"):
            await asyncio.to_thread(_read, str(site.make_url("/live.m3u8")), Asked())


@on_loop
async def test_a_redirection_is_asked_for(folder: Path) -> None:
    asked = Asked()
    asked.refused = "clip.mp4"
    async with _site(folder) as site:
        with pytest.raises(MediaError, match="not on the list"):
            await asyncio.to_thread(_read, str(site.make_url("/away")), asked)


@pytest.mark.parametrize(("name", "words"), [("page.html", "nothing that can be shown"), ("none.mp4", "404")])
@on_loop
async def test_what_cannot_be_shown_is_said(folder: Path, name: str, words: str) -> None:
    async with _site(folder) as site:
        with pytest.raises((MediaError, NetworkError), match=words):
            await asyncio.to_thread(_read, str(site.make_url(f"/{name}")), Asked())


@on_loop
async def test_reading_over_http_ends_when_it_is_not_wanted(folder: Path) -> None:
    stopped = threading.Event()

    def read(url: str) -> int:
        source = UrlSource(url, "stream", Asked(), stopped)
        count = 0
        for _ in source.frames():
            count += 1
        source.close()
        return count

    async with _site(folder) as site:
        reading = asyncio.create_task(asyncio.to_thread(read, str(site.make_url("/stuck"))))
        await asyncio.wait([reading], timeout=1)
        stopped.set()
        began = time.monotonic()
        await reading
        assert time.monotonic() - began < 4  # the silence of the other side would be waited for longer


@pytest.fixture
def mute() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
def test_a_server_that_says_nothing_is_given_up(mute: int, scheme: str) -> None:
    with pytest.raises(NetworkError, match=r"in time|timed out"):
        UrlSource(f"{scheme}://127.0.0.1:{mute}/x", "stream", Asked())


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "http"])
def test_nobody_there(scheme: str) -> None:
    with pytest.raises(NetworkError, match=r"refused|I/O|cannot be opened"):
        UrlSource(f"{scheme}://127.0.0.1:{free_port()}/x", "stream", Asked())


def test_rtsp_from_a_camera() -> None:
    with rtsp_camera() as (_, port):
        source, frames = _read(f"rtsp://127.0.0.1:{port}/camera", Asked(), 60)
    times = _pictures(frames)
    assert source.info.duration_s is None
    assert (source.info.video.width, source.info.video.height, source.info.video.codec) == (160, 120, "h264")
    assert times == sorted(set(times))
    assert len(times) > 10
    assert any(isinstance(frame, AudioFrame) for frame in frames)


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "theirs"), [("caller", "listener"), ("listener", "caller")])
def test_srt_both_ways(ours: str, theirs: str) -> None:
    port = free_port(socket.SOCK_DGRAM)
    with ffmpeg_sender("-f", "mpegts", f"srt://127.0.0.1:{port}?mode={theirs}&connect_timeout=15000"):
        _, frames = _read_until_open(f"srt://127.0.0.1:{port}?mode={ours}")
    assert len(_pictures(frames)) > 5


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "theirs"), [("caller", "listener"), ("listener", "caller")])
def test_a_passphrase_is_in_no_list_of_processes(ours: str, theirs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port, started = free_port(socket.SOCK_DGRAM), []
    plain = relay.subprocess.Popen

    def start(arguments: list[str], **options: Any) -> Any:
        started.append(arguments)
        return plain(arguments, **options)

    place = f"srt://127.0.0.1:{port}?passphrase=it's+not+for+all"
    with ffmpeg_sender("-f", "mpegts", f"{place}&mode={theirs}&connect_timeout=15000"):
        monkeypatch.setattr(relay.subprocess, "Popen", start)
        source, frames = _read_until_open(f"{place}&mode={ours}")
    assert len(_pictures(frames)) > 5
    assert not source.info.duration_s
    assert started
    assert not [arguments for arguments in started if "not+for+all" in " ".join(arguments)]


def test_udp() -> None:
    port = free_port(socket.SOCK_DGRAM)
    with ffmpeg_sender("-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"):
        _, frames = _read_until_open(f"udp://127.0.0.1:{port}")
    assert len(_pictures(frames)) > 5


def test_rtmp_from_a_sender() -> None:
    port = free_port()
    with ffmpeg_sender("-f", "flv", "-listen", "1", f"rtmp://127.0.0.1:{port}/live/key"):
        _, frames = _read_until_open(f"rtmp://127.0.0.1:{port}/live/key")
    assert len(_pictures(frames)) > 5


def _read_until_open(url: str) -> tuple[UrlSource, list[VideoFrame | AudioFrame]]:
    """The first frames; the sender may take a moment to be there."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return _read(url, Asked(), 60)
        except NetworkError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
