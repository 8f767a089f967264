"""ICE restarts: who comes back from another network goes on with the same keys, pictures and channels."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiortc import AudioStreamTrack
from app_harness import App, Grey, app_with, browser
from on_loop import on_loop, until
from whip_ends import FRAGMENT, End, publishing, watching

from comfystream.engine.child import ChildEngine
from comfystream_server.connection import Connection
from comfystream_server.rtc import restart
from comfystream_server.rtc.compat_aioice import live_transport


def _transport(connection: Connection) -> Any:
    transport = live_transport(connection.peer._connection)
    assert transport is not None
    return transport


def _of(app: App, word: str) -> Connection:
    return next(one for one in app.parts.connections if one.word == word)


async def _goes_on(viewer: End) -> None:
    before = dict(viewer.counts)
    await until(lambda: viewer.counts["video"] > before["video"] + 10, "pictures go on")
    await until(lambda: viewer.counts["audio"] > before["audio"] + 10, "sound goes on")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets of before are let go at once."""
    monkeypatch.setattr(restart, "_LINGER_S", 0.0)


@on_loop
async def test_viewer_and_publisher_move_and_everything_goes_on(shared_engine: ChildEngine, soon: None) -> None:
    async with (
        app_with(shared_engine) as app,
        publishing(app.client, "/whip/stage", Grey(), AudioStreamTrack()) as publisher,
        watching(app.client, "/whep/stage", "VP8") as viewer,
    ):
        await _goes_on(viewer)
        for end, word in ((viewer, "viewer"), (publisher, "publisher")):
            connection = _of(app, word)
            transport = _transport(connection)
            first, dtls = transport._connection, end.pc.getTransceivers()[0].receiver.transport
            for count in (1, 2):
                await end.restart()
                await until(lambda first=first, transport=transport: transport._connection is not first, "the move")
                await until(lambda first=first: not first._protocols, "the sockets of before are closed")
                await _goes_on(viewer)
                first = transport._connection
                assert connection.peer.stats["ice_restarts"] == count
            assert dtls.state == "connected"
            assert (end.pc.connectionState, connection.peer.state) == ("connected", "connected")
        assert app.parts.sessions.get("stage").viewers == 2
        assert await viewer.delete() == 200
        assert await publisher.delete() == 200
        await until(lambda: not [*app.parts.connections], "all are gone")


@on_loop
async def test_no_picture_is_lost_and_no_key_frame_made(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine) as app,
        publishing(app.client, "/whip/stage", Grey(), AudioStreamTrack()),
        watching(app.client, "/whep/stage", "VP8") as viewer,
    ):
        await _goes_on(viewer)
        outlet = _of(app, "viewer").peer._video
        keys, skipped = outlet._source.figures()["VP8"]["key_frames"], outlet.skipped
        await viewer.restart(linger_s=0.5)
        await until(lambda: _of(app, "viewer").peer.stats["ice_restarts"] == 1, "the move")
        await _goes_on(viewer)
        assert outlet._source.figures()["VP8"]["key_frames"] == keys
        assert outlet.skipped == skipped


@on_loop
async def test_a_viewer_of_the_page_moves_and_its_channel_goes_on(shared_engine: ChildEngine, soon: None) -> None:
    async with app_with(shared_engine) as app, browser(app, "comfystream") as page:
        end = End(app.client, "")
        plain, end.pc = end.pc, page.pc
        await plain.close()
        end.place = page.resource
        await end.restart()
        await until(lambda: _of(app, "viewer").peer.stats["ice_restarts"] == 1, "the move")
        page.channels["comfystream"].send('{"v": 1, "id": 7, "type": "describe"}')
        await until(lambda: any(said.get("id") == 7 for _, said in page.said), "the reply over the channel")
        assert page.pc.connectionState == "connected"


@on_loop
async def test_a_restart_that_comes_to_nothing_leaves_the_connection(
    shared_engine: ChildEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restart, "_CONNECT_S", 0.3)
    caplog.set_level("INFO", restart.__name__)
    async with (
        app_with(shared_engine) as app,
        publishing(app.client, "/whip/stage", Grey(), AudioStreamTrack()),
        watching(app.client, "/whep/stage") as viewer,
    ):
        second, fragment = await viewer.second_ice()
        first = _transport(_of(app, "viewer"))._connection
        headers = FRAGMENT | viewer.headers
        response = await app.client.patch(viewer.place, data=fragment, headers=headers)
        assert response.status == 200
        await until(lambda: "came to nothing: no answer within" in caplog.text, "the end of the attempt")
        await second.abandon()
        assert _transport(_of(app, "viewer"))._connection is first
        await until(lambda: first._query_consent_task is not None, "silence is noticed again")
        assert not first._query_consent_task.done()
        await _goes_on(viewer)
        await viewer.restart()
        await _goes_on(viewer)


@on_loop
async def test_restarts_that_overtake_each_other_and_an_end_in_the_middle(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine) as app,
        publishing(app.client, "/whip/stage", Grey(), AudioStreamTrack()) as publisher,
        watching(app.client, "/whep/stage") as viewer,
    ):
        held = [await viewer.second_ice() for _ in range(3)]
        asked = [app.client.patch(viewer.place, data=text, headers=FRAGMENT) for _, text in held]
        assert [response.status for response in await asyncio.gather(*asked)] == [200] * 3
        for second, _ in held:
            await second.abandon()
        await viewer.restart()
        await _goes_on(viewer)
        second, text = await publisher.second_ice()
        asking = asyncio.create_task(app.client.patch(publisher.place, data=text, headers=FRAGMENT))
        assert await publisher.delete() == 200
        assert (await asking).status in (200, 404, 422)
        await second.abandon()
        await until(lambda: _moving() == 0, "nothing is left of it")


def _moving() -> int:
    return sum(task.get_name() == "peer-restart" for task in asyncio.all_tasks())


@on_loop
async def test_refusals(shared_engine: ChildEngine) -> None:
    async with (
        app_with(shared_engine, connects_per_s=5) as app,
        publishing(app.client, "/whip/stage", Grey()) as publisher,
    ):
        second, good = await publisher.second_ice()
        await second.abandon()
        no_password = good.replace("a=ice-pwd", "a=other")
        for status, code, match, text in (
            (428, "no_tag", None, good),
            (412, "other_tag", '"stale"', good),
            (400, "bad_sdp", "*", no_password),
            (422, "no_restart", "*", publisher.pc.localDescription.sdp),
        ):
            headers = {**FRAGMENT, "If-Match": match} if match else {"Content-Type": FRAGMENT["Content-Type"]}
            response = await app.client.patch(publisher.place, data=text, headers=headers)
            assert (response.status, (await response.json())["error"]["code"]) == (status, code)
        statuses = [(await app.client.patch(publisher.place, data=good, headers=FRAGMENT)).status]
        for number in range(10):
            text = good.replace("a=ice-ufrag:", f"a=ice-ufrag:{number}")
            statuses.append((await app.client.patch(publisher.place, data=text, headers=FRAGMENT)).status)
        assert statuses[0] == 200
        assert 429 in statuses


@on_loop
async def test_an_offer_with_many_candidates_is_taken(shared_engine: ChildEngine) -> None:
    """Browsers gather for each section, and machines have many addresses: together more than a fragment may have."""
    async with app_with(shared_engine) as app:
        end = End(app.client, "/whep/stage")
        end.watch()
        await end.pc.setLocalDescription(await end.pc.createOffer())
        line = "a=candidate:{} 1 udp 2113937151 192.0.2.{} 50000 typ host\r\n"
        many = "".join(line.format(number, number) for number in range(1, 41))
        sdp = end.pc.localDescription.sdp.replace("a=end-of-candidates\r\n", many + "a=end-of-candidates\r\n")
        assert sdp.count("a=candidate") > 64
        response = await app.client.post("/offer", json={"offer": {"sdp": sdp, "type": "offer"}})
        assert response.status == 200, await response.text()
        assert response.headers["Location"] == (await response.json())["resource"]
        assert (await app.client.delete(response.headers["Location"])).status == 200
        await until(lambda: not [*app.parts.connections], "it has gone")
        await end.close()


@on_loop
async def test_without_a_connection_it_is_refused(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        end = End(app.client, "/whip/stage")
        end.send(Grey())
        assert (await end.post())[0] == 201
        text = "a=ice-ufrag:other\r\na=ice-pwd:otherotherotherotherother\r\n"
        response = await app.client.patch(end.place, data=text, headers=FRAGMENT)
        assert (response.status, (await response.json())["error"]["code"]) == (422, "no_restart")
        await end.close()
