from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import av
import pytest
import whip_sender
from aiohttp import ClientSession, web
from peer_certificate import certificate
from rtc_ends import DEADLINE_S, Camera, Host, Viewer, run, shown

from comfystream.errors import BusyError, NetworkError
from comfystream.media.pattern import read_counter
from comfystream_server.rtc.ice import IceServer
from comfystream_server.rtc.whep import whep
from comfystream_server.rtc.whip import whip

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


class App:
    """An application that takes the streams "cam" and "screen"."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []

    async def publish(self, stream: str, request: web.Request):
        if stream == "busy":
            raise BusyError("two sessions are running, that is the limit", hint="try again later")
        if stream not in ("cam", "screen"):
            raise NetworkError(f'there is no stream "{stream}"', code="not_found")
        self.hosts.append(Host())
        return self.hosts[-1].peer

    watch = publish


@contextlib.asynccontextmanager
async def serving(*middlewares, **options) -> AsyncIterator[tuple[App, str, ClientSession]]:
    app, application = web.Application(middlewares=middlewares), App()
    whip(application, **options).add_to(app)
    whep(application, **options).add_to(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ClientSession() as client:
            yield application, f"http://127.0.0.1:{runner.addresses[0][1]}", client
    finally:
        await runner.cleanup()


async def offer(viewer: Viewer) -> str:
    await viewer.pc.setLocalDescription(await viewer.pc.createOffer())
    return viewer.pc.localDescription.sdp


def test_ffmpeg_publishes(tmp_path: Path) -> None:
    if "whip" not in av.formats_available:
        pytest.skip(f"PyAV {av.__version__} has no WHIP muxer; 18.1 has")

    tokens = []

    @web.middleware
    async def listen(request: web.Request, handler):
        tokens.append(request.headers.get("Authorization"))
        return await handler(request)

    async def scenario() -> None:
        async with serving(listen) as (app, url, _):
            command = [sys.executable, whip_sender.__file__, f"{url}/whip/cam", *certificate(tmp_path), "let-me-in"]
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            _, said = await asyncio.wait_for(process.communicate(), DEADLINE_S)
            assert process.returncode == 0, said.decode()[-2000:]
            (host,) = app.hosts
            numbers = [read_counter(host.videos.get_nowait().image) for _ in range(host.videos.qsize())]
            assert numbers[-1] >= whip_sender.PICTURES - 2
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            sounds = [host.sounds.get_nowait() for _ in range(host.sounds.qsize())]
            assert len(sounds) > 40
            assert max(abs(sound.samples).max() for sound in sounds) > 0.3, "the beep"
            await host.until("closed")  # by its DELETE
            assert tokens == ["Bearer let-me-in"] * 2

    run(scenario())


def test_a_client_watches() -> None:
    async def scenario() -> None:
        viewer = Host()  # it offers: the other end of a Peer may be a Peer
        async with serving() as (app, url, client):
            sdp = await viewer.peer.offer(("video",))
            async with client.post(f"{url}/whep/screen", data=sdp, headers=SDP) as response:
                assert response.status == 201
                await viewer.peer.accept(await response.text())
            app.hosts[0].peer.send_video(shown(77))  # the only one: nobody has to wait for the next
            frame = await asyncio.wait_for(viewer.videos.get(), DEADLINE_S)
            assert read_counter(frame.image) == 77
            await viewer.peer.close()

    run(scenario())


def test_the_resource_lives_from_post_to_delete() -> None:
    async def scenario() -> None:
        viewer = Viewer()
        viewer.pc.addTrack(Camera())
        servers = (IceServer(("turn:turn.example.org:3478",), "ann", "secret"),)
        async with serving(ice_servers=lambda: servers) as (app, url, client):
            async with client.post(f"{url}/whip/cam", data=await offer(viewer), headers=SDP) as response:
                assert response.status == 201
                assert response.content_type == "application/sdp"
                assert "a=recvonly" in await response.text() or "a=sendrecv" in await response.text()
                place, tag = response.headers["Location"], response.headers["ETag"]
                assert place.startswith("/whip/cam/")
                assert 'rel="ice-server"; username="ann"' in response.headers["Link"]
            lines = viewer.pc.localDescription.sdp.splitlines()
            wanted = ("a=ice-ufrag", "a=ice-pwd", "m=", "a=mid", "a=candidate")
            body = "\r\n".join(line for line in lines if line.startswith(wanted)) + "\r\n"
            restart = "a=ice-ufrag:other\r\na=ice-pwd:otherotherotherotherother\r\n"
            for expected, headers, data in (
                (428, FRAGMENT, body),
                (412, FRAGMENT | {"If-Match": '"stale"'}, body),
                (422, FRAGMENT | {"If-Match": "*"}, body),
                (422, FRAGMENT | {"If-Match": tag}, restart),
                (415, SDP | {"If-Match": tag}, body),
                (400, FRAGMENT | {"If-Match": tag}, "a=candidate:x y z\r\n"),
                (204, FRAGMENT | {"If-Match": tag}, body),
            ):
                async with client.patch(url + place, data=data, headers=headers) as response:
                    assert response.status == expected, await response.text()
            async with client.get(url + place) as response:
                assert response.status == 405
            async with client.delete(url + place.replace("cam", "screen")) as response:
                assert response.status == 404
            async with client.delete(url + place) as response:
                assert response.status == 200
            assert app.hosts[0].peer.state == "closed"
            async with client.delete(url + place) as response:
                assert response.status == 404
        await viewer.pc.close()

    run(scenario())


@pytest.mark.parametrize(
    ("stream", "headers", "data", "status", "words"),
    [
        ("cam", {"Content-Type": "text/plain"}, "v=0", 415, "application/sdp"),
        ("cam", SDP, "hello", 400, "m="),
        ("cam", SDP, b"\xff\xfe", 400, "UTF-8"),
        ("cam", SDP, "v=0\r\n" * 100_000, 413, "128 KiB"),
        ("nobody", SDP, "", 404, '"nobody"'),
        ("busy", SDP, "", 503, "that is the limit"),
    ],
)
def test_a_refusal_says_why(stream: str, headers: dict, data: str | bytes, status: int, words: str) -> None:
    async def scenario() -> None:
        viewer = Viewer()
        viewer.pc.addTransceiver("video", direction="recvonly")
        sent = data or await offer(viewer)
        async with (
            serving() as (_, url, client),
            client.post(f"{url}/whip/{stream}", data=sent, headers=headers) as response,
        ):
            await viewer.pc.close()
            assert response.status == status
            assert words in (await response.json())["error"]["message"]
            assert ("Retry-After" in response.headers) == (status == 503)

    run(scenario())


def test_an_unknown_codec_is_named_with_those_that_are_known() -> None:
    async def scenario() -> None:
        viewer = Viewer()
        viewer.pc.addTransceiver("video", direction="recvonly")
        sdp = (await offer(viewer)).replace("VP8/", "VP9/").replace("H264/", "AV1/")
        async with serving() as (app, url, client), client.post(f"{url}/whep/cam", data=sdp, headers=SDP) as response:
            assert response.status == 406
            assert "offered VP9" in (said := await response.text())
            assert "H264" in said
            assert "VP8" in said
            assert not app.hosts, "what is no good offer makes no peer"
        await viewer.pc.close()

    run(scenario())
