"""The newest picture as JPEG, and the preview: for anybody who can show an image."""

from __future__ import annotations

import asyncio
import io
import itertools
import socket
from fractions import Fraction
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from app_harness import App, app_with
from live_harness import camera
from on_loop import on_loop, until
from PIL import Image

from comfystream.frames import VideoFrame
from comfystream.session.live import LiveSession
from comfystream_server.http import pictures

SNAPSHOT, PREVIEW = "/api/v1/sessions/cam/snapshot.jpg", "/api/v1/sessions/cam/preview.mjpg"


async def made(app: App) -> LiveSession:
    return await app.parts.sessions.create(app.parts.options, id="cam")


def grey_of(data: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean())


@on_loop
async def test_a_snapshot_is_the_newest_picture() -> None:
    async with app_with(None) as app:
        assert (await app.json("GET", SNAPSHOT))[0] == 404
        session = await made(app)
        status, error = await app.json("GET", SNAPSHOT)
        assert (status, error["error"]["code"]) == (409, "no_picture")
        async with camera(session, 90):
            await until(lambda: session.newest, "a picture")
        response = await app.client.get(SNAPSHOT)
        assert (response.status, response.content_type) == (200, "image/jpeg")
        assert response.headers["Cache-Control"] == "no-store"
        assert grey_of(await response.read()) == pytest.approx(90, abs=4)


async def parts_of(response: aiohttp.ClientResponse, most: int) -> list[bytes]:
    reader = aiohttp.MultipartReader.from_response(response)
    found: list[bytes] = []
    while len(found) < most:
        part: Any = await reader.next()
        assert part.headers["Content-Type"] == "image/jpeg"
        found.append(bytes(await part.read()))
    return found


@on_loop
async def test_two_clients_of_one_preview_share_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    real = pictures.encode_jpeg
    monkeypatch.setattr(pictures, "encode_jpeg", lambda *given: encoded.append(real(*given)) or encoded[-1])
    async with app_with(None) as app:
        session = await made(app)
        async with (
            camera(session, 200),
            app.client.get(f"{PREVIEW}?fps=20&width=16") as one,
            app.client.get(f"{PREVIEW}?fps=20&width=16") as two,
        ):
            assert one.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            shown = await asyncio.gather(parts_of(one, 5), parts_of(two, 5))
    assert Image.open(io.BytesIO(shown[0][0])).size == (16, 8)
    assert grey_of(shown[0][-1]) == pytest.approx(200, abs=4)
    known = set(encoded)
    assert all(data in known for data in (*shown[0], *shown[1]))


@on_loop
async def test_a_preview_ends_with_its_session_and_costs_nothing_without_clients() -> None:
    async with app_with(None) as app:
        session = await made(app)
        async with camera(session), app.client.get(PREVIEW) as response:
            await parts_of(response, 1)
            assert sum(task.get_name() == "preview-cam" for task in asyncio.all_tasks()) == 1
            response.close()
            await until(
                lambda: not any(task.get_name() == "preview-cam" for task in asyncio.all_tasks()), "the preview's end"
            )
        async with camera(session), app.client.get(PREVIEW) as response:
            await app.parts.sessions.end("cam")
            async with asyncio.timeout(10):
                await response.read()


@pytest.mark.parametrize("query", ["fps=0", "fps=1000", "fps=nan", "fps=x", "width=1", "width=99999", "width=-1"])
@on_loop
async def test_a_preview_of_no_sensible_kind_is_refused(query: str) -> None:
    async with app_with(None) as app:
        await made(app)
        assert (await app.json("GET", f"{PREVIEW}?{query}"))[0] == 400


@on_loop
async def test_sinks_that_are_not_allowed_are_refused_with_a_hint() -> None:
    async with app_with(None) as app:
        await made(app)
        for sink, hint in (
            ({"type": "record"}, "recording_folder"),
            ({"type": "push", "url": "rtmp://live.example.org/app/key"}, "allowed_push_urls"),
            ({"type": "push", "url": "ftp://a/b"}, "there are"),
        ):
            path = "/api/v1/sessions/cam/control"
            status, reply = await app.json("POST", path, {"type": "add_sink", "sink": sink})
            assert 400 <= status < 500
            assert hint in reply["error"]["hint"]
        for sink in ({"type": "disk"}, {}, {"type": "record", "path": "/x"}, {"type": "push", "url": ""}):
            assert (await app.json("POST", path, {"type": "add_sink", "sink": sink}))[0] == 400


@on_loop
async def test_a_client_that_reads_nothing_costs_the_others_no_picture() -> None:
    rng = np.random.default_rng(1)
    noise = [av.VideoFrame.from_ndarray(rng.integers(0, 255, (360, 640, 3), np.uint8), "rgb24") for _ in range(4)]
    async with app_with(None) as app:
        session = await made(app)
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", app.client.port))
        deaf.sendall(f"GET {PREVIEW}?fps=30 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

        async def shoot() -> None:
            for number in itertools.count():
                session.submit(VideoFrame(number, number, Fraction(1, 30), noise[number % 4]))
                await asyncio.sleep(0.02)

        task = asyncio.create_task(shoot())
        async with app.client.get(f"{PREVIEW}?fps=30") as other:
            shown = await parts_of(other, 40)
        assert sum(map(len, shown)) > 2_000_000  # more than lies in the buffers of the one that does not read
        task.cancel()
        await asyncio.wait([task])
        deaf.close()
