"""WHIP and WHEP as they are mounted: sessions by name, tokens and origins, one encoder for all who look on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiortc import AudioStreamTrack
from app_harness import Browser, Grey, app_with, browser
from engine_harness import fill
from on_loop import on_loop, until
from whip_ends import SDP, End, publishing, watching

from comfystream.engine.child import ChildEngine
from comfystream_server.rtc.audience import Audience
from comfystream_server.rtc.outlets import Outlet


@pytest.fixture(autouse=True)
def audiences(monkeypatch: pytest.MonkeyPatch) -> list[Audience]:
    """Every audience that is made."""
    made: list[Audience] = []
    plain = Audience.__init__

    def init(self: Audience) -> None:
        plain(self)
        made.append(self)

    monkeypatch.setattr(Audience, "__init__", init)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "white.json").write_text(json.dumps(fill(1.0)))
    return tmp_path


@on_loop
async def test_who_publishes_is_watched_through_a_workflow(shared_engine: ChildEngine, folder: Path) -> None:
    async with (
        app_with(shared_engine, workflow_folders=(str(folder),)) as app,
        publishing(app.client, "/whip/stage?workflow=white", Grey(), AudioStreamTrack()) as publisher,
    ):
        session = app.parts.sessions.get("stage")
        assert (session.state, session.revision, session.viewers) == ("running", 1, 1)
        assert "a=sendrecv" not in publisher.pc.remoteDescription.sdp
        path = "/whep/stage"
        async with watching(app.client, path, "H264") as h264, watching(app.client, path, "VP8") as vp8:
            for viewer in (h264, vp8):
                await until(lambda viewer=viewer: viewer.shown is not None and viewer.shown > 220, "the white picture")
                await until(lambda viewer=viewer: viewer.counts["audio"] > 10, "sound")
            assert session.source == "publisher 1"
            assert await publisher.delete() == 200
        await until(lambda: session.viewers == 0, "all have left")
        assert session.source == ""
        async with publishing(app.client, "/whip/stage", Grey()):
            assert app.parts.sessions.get("stage") is session
            assert session.revision == 1


@on_loop
async def test_a_page_and_its_onlookers(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app, browser(app, prompts=fill(1.0)) as page:
        async with watching(app.client, f"/whep/{page.session}") as viewer:
            await until(lambda: viewer.shown is not None and viewer.shown > 220, "the picture")
            assert await viewer.delete() == 200
        assert app.parts.sessions.get(page.session).viewers == 1


@on_loop
async def test_eight_viewers_take_one_encoder_and_a_slow_one_stands_alone(
    shared_engine: ChildEngine, audiences: list[Audience]
) -> None:
    async with app_with(shared_engine) as app, publishing(app.client, "/whip/stage", Grey()):
        ends = [End(app.client, "/whep/stage") for _ in range(8)]
        for end in ends:
            end.watch("VP8")
        await asyncio.gather(*(end.connect() for end in ends))
        await until(lambda: all(end.counts["video"] > 3 for end in ends), "pictures for all")
        (audience,) = audiences
        outlets = [*audience._feeds["VP8"].outlets]
        assert len(outlets) == 8
        slow, held = outlets[0], asyncio.Event()
        plain = slow.recv

        async def recv() -> Any:
            await held.wait()
            return await plain()

        slow.recv = recv  # type: ignore[method-assign]
        before, lost = audience.figures()["VP8"]["frames"], slow.skipped
        given, skipped = [_given(outlet) for outlet in outlets], [outlet.skipped for outlet in outlets]
        await until(lambda: slow.skipped > lost + slow.room, "the slow one lost pictures")
        made = audience.figures()["VP8"]["frames"] - before
        assert [_given(outlet) - count for outlet, count in zip(outlets, given, strict=True)] == [made] * 8
        for outlet, count in zip(outlets[1:], skipped[1:], strict=True):
            assert outlet.skipped - count < slow.skipped - lost
        held.set()
        sent = slow.sent
        await until(lambda: slow.sent > sent + 5, "the slow one is back")
        await asyncio.gather(*(end.close() for end in ends))
        await until(lambda: not audience.figures(), "the encoder ends with the last viewer")


def _given(outlet: Outlet) -> int:
    """How many encoded pictures it was given: sent on, left out, or waiting."""
    return outlet.sent + outlet.skipped + len(outlet._packets)


@on_loop
async def test_tokens_origins_and_preflights() -> None:
    origin = "https://studio.example.org"
    settings: dict[str, Any] = {"token": "boss", "viewer_token": "look", "allowed_origins": (origin,)}
    async with app_with(None, **settings) as app:
        asks = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,if-match",
        }
        response = await app.client.options("/whip/stage", headers=asks)
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "If-Match" in response.headers["Access-Control-Allow-Headers"]
        assert "Location" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Accept-Post"] == "application/sdp"
        asks["Origin"] = "https://evil.example"
        assert (await app.client.options("/whip/stage", headers=asks)).status == 403
        for path, token, status in (
            ("/whip/stage", "", 401),
            ("/whip/stage", "wrong", 401),
            ("/whip/stage", "look", 403),
            ("/whip/stage", "boss", 400),
            ("/whep/stage", "", 401),
            ("/whep/stage", "look", 400),
        ):
            headers = SDP | {"Authorization": f"Bearer {token}", "Origin": origin}
            response = await app.client.post(path, data="v=0\r\n", headers=headers)
            assert response.status == status, (path, token)
            assert (await response.json())["error"]["message"]
            assert (response.headers.get("Access-Control-Allow-Origin") == origin) == (status == 400)
        assert len(app.parts.sessions) == 0


@on_loop
async def test_a_viewers_token_is_enough_to_look_on(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine, token="boss", viewer_token="look") as app,
        publishing(app.client, "/whip/stage", Grey(), token="boss"),
        watching(app.client, "/whep/stage", token="look") as viewer,
    ):
        await until(lambda: viewer.counts["video"] > 0, "a picture")
        assert await viewer.delete() == 200


@on_loop
async def test_refusals_say_why(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, max_sessions=1, max_viewers=1) as app:
        end = End(app.client, "/whep/nobody")
        end.watch()
        status, error = await end.post()
        assert (status, error["code"]) == (404, "no_such_session")
        for path, status, code in (
            ("/whip/stage?workflow=nobody", 404, "unknown_workflow"),
            ("/whip/not%20a%20name", 400, "bad_name"),
        ):
            end.path = path
            assert (await end.post())[0] == status
            assert (await end.post())[1]["code"] == code
        assert len(app.parts.sessions) == 0
        async with publishing(app.client, "/whip/stage", Grey()):
            end.path = "/whip/other"
            status, error = await end.post()
            assert (status, error["code"]) == (503, "too_many_sessions")
            async with watching(app.client, "/whep/stage"):
                end.path = "/whep/stage"
                status, error = await end.post()
                assert (status, error["code"]) == (503, "too_many_viewers")
                page = Browser(app)
                await page.pc.setLocalDescription(await page.pc.createOffer())
                offer = {"sdp": page.pc.localDescription.sdp, "type": "offer"}
                response = await app.client.post("/offer", json={"offer": offer, "session": "stage"})
                assert response.status == 503
                assert int(response.headers["Retry-After"]) > 0
                await page.close()
        await end.close()


@on_loop
async def test_connections_that_come_too_fast_wait() -> None:
    async with app_with(None, connects_per_s=3) as app:
        statuses = [(await app.client.post("/whep/x", data="v=0\r\n", headers=SDP)).status for _ in range(8)]
        assert statuses[:3] == [400, 400, 400]
        assert 429 in statuses


@on_loop
async def test_a_session_that_ends_lets_its_connections_go(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine) as app,
        publishing(app.client, "/whip/stage", Grey()) as publisher,
        watching(app.client, "/whep/stage") as viewer,
    ):
        await app.parts.sessions.end("stage")
        for end in (publisher, viewer):
            await until(lambda end=end: end.pc.connectionState == "closed", "the end")
            assert await end.delete() == 404
        assert not [*app.parts.connections]
