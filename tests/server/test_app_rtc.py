"""Real WebRTC clients: old ones by their words, new ones by the control protocol."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from app_harness import Browser, app_with, browser
from engine_harness import fill
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine


@on_loop
async def test_without_prompts_the_picture_comes_back_and_control_has_no_effect(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app, browser(app, "control", prompts=None) as client:
        await until(lambda: client.shown is not None and abs(client.shown - 128) < 12, "the echo")
        assert await client.ask("control", type="get_nodes") == {"type": "nodes_info", "nodes": {}}
        answer = await client.ask("control", type="update_prompts", prompts=fill(1.0))
        assert answer == {"type": "prompts_updated", "success": True}
        assert app.parts.sessions.get(client.session).workflow is None


@on_loop
async def test_an_old_client_gets_its_exact_replies(shared_engine: ChildEngine) -> None:
    resolution = {"width": 64, "height": 48}
    async with (
        app_with(shared_engine) as app,
        browser(app, "control", "data", path="/live/offer", prompts=[fill(1.0)], resolution=resolution) as client,
    ):
        await until(lambda: client.shown is not None and client.shown > 240, "the workflow's picture")
        ask: Any = client.ask
        nodes = await ask("control", type="get_nodes")
        assert nodes["nodes"]["0"]["fill"]["inputs"]["number"] == {
            "value": 1.0,
            "type": "FLOAT",
            "min": None,
            "max": None,
            "widget": None,
        }
        assert await ask("control", type="update_prompts", prompts=fill(0.0)) == {
            "type": "prompts_updated",
            "success": True,
        }
        await until(lambda: client.shown is not None and client.shown < 20, "the new picture")
        failed = await ask("control", type="update_prompts", prompts={"1": {"class_type": "Nobody", "inputs": {}}})
        assert (failed["type"], failed["success"]) == ("prompts_updated", False)
        assert failed["error"]
        good = {"type": "resolution_updated", "success": True}
        assert await ask("control", type="update_resolution", **resolution) == good
        assert (await ask("control", type="update_resolution", width=5))["success"] is False
        for order, word in (("pause", "paused"), ("resume", "resumed"), ("stop", "stopped")):
            reply = await ask("control", type=f"{order}_prompts")
            assert reply == {"type": f"prompts_{word}", "success": True}
        client.channels["control"].send("{")  # no reply to what is not understood
        client.channels["control"].send('{"type":"nobody"}')
        assert (await ask("control", type="resume_prompts"))["type"] == "prompts_resumed"
        _, stats = await app.json("GET", "/streams/stats")
        assert set(stats[client.session]) == {"timestamp", "fps", "minute_avg_fps", "minute_fps_array"}
        assert stats[client.session]["timestamp"] > 0


@on_loop
async def test_text_goes_over_the_data_channel(shared_engine: ChildEngine) -> None:
    graph = fill(0.5, text={"class_type": "SaveTextTensor", "inputs": {"data": "hello"}})
    async with app_with(shared_engine) as app, browser(app, "control", "data", prompts=graph) as client:
        await until(lambda: ("data", {"type": "text", "data": "hello"}) in client.said, "the text")


@on_loop
async def test_the_control_protocol_over_the_data_channel(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app, browser(app, "comfystream") as client:
        reply = await client.ask("comfystream", type="set_workflow", workflow=fill(0.0), id=1)
        assert (reply["ok"], reply["id"], reply["revision"]) == (True, 1, 1)
        patch = {"node": "fill", "input": "number", "value": 1.0}
        reply = await client.ask("comfystream", type="patch", patches=[patch], id=2)
        assert reply["ok"]
        assert reply["first_frame"] is not None
        await until(lambda: client.shown is not None and client.shown > 240, "the new picture")
        await until(lambda: client.events("stats"), "figures")
        assert client.events("stats")[0]["data"]["connection"]["video_in"]["frames"] > 0
        reply = await client.ask("comfystream", type="patch", patches=[{**patch, "node": "nobody"}], id=3)
        assert (reply["ok"], reply["error"]["code"]) == (False, "unknown_node")


@on_loop
async def test_a_dropped_viewer_comes_back_to_the_session_running(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        async with browser(app, "comfystream", prompts=fill(1.0)) as first:
            await until(lambda: first.shown is not None and first.shown > 240)
        session = app.parts.sessions.get(first.session)
        async with browser(app, "comfystream", session=session.id) as second:
            await until(lambda: second.shown is not None and second.shown > 240)
            assert second.session == first.session
            assert session.revision == 1
        await until(lambda: session.viewers == 0, "both have left")
        assert session.state == "running"


@on_loop
async def test_nobodys_leaving_touches_another_and_one_too_many_waits(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, max_sessions=2) as app, browser(app, prompts=fill(1.0)) as stays:
        async with browser(app, prompts=fill(0.0)) as leaves:
            third = Browser(app)
            await third.pc.setLocalDescription(await third.pc.createOffer())
            body = {"offer": {"sdp": third.pc.localDescription.sdp, "type": "offer"}}
            response = await app.client.post("/offer", json=body)
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert "sessions" in (await response.json())["error"]["message"]
            await third.close()
            await until(lambda: leaves.shown is not None and leaves.shown < 20)
        await until(lambda: app.parts.sessions.get(leaves.session).viewers == 0, "the viewer has left")
        stays.shown = None
        await until(lambda: stays.shown is not None and stays.shown > 240)


@on_loop
async def test_bad_offers_never_stop_a_running_session(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app, browser(app, prompts=fill(1.0)) as stays:
        garbage = ["v=0", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "\0" * 50, "a=" * 1000]
        bodies = [{"offer": {"sdp": sdp, "type": kind}} for sdp in garbage for kind in ("offer", "answer", "")]
        statuses = await asyncio.gather(*(app.json("POST", "/offer", body) for body in bodies))
        assert {status // 100 for status, _ in statuses} == {4}
        stays.shown = None
        await until(lambda: stays.shown is not None and stays.shown > 240)


@on_loop
async def test_viewers_leave_nothing_behind(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        counts = []
        for _ in range(4):
            async with browser(app, "comfystream", prompts=fill(1.0)) as client:
                await until(lambda client=client: client.shown is not None and client.shown > 240)
            session = app.parts.sessions.get(client.session)
            await until(lambda session=session: session.viewers == 0, "it has left")
            await app.parts.sessions.end(session.id)
            await until(lambda: not (threads_named("feed-") or threads_named("engine-out")), "its threads have ended")
            if len(counts) > 1:
                await until(lambda: len(asyncio.all_tasks()) <= counts[1], "its tasks have ended")
            counts.append(len(asyncio.all_tasks()))


def threads_named(start: str) -> int:
    return sum(thread.name.startswith(start) for thread in threading.enumerate())


@on_loop
async def test_ending_the_server_closes_open_sockets_quickly(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        session = await app.parts.sessions.create()
        socket = await app.client.ws_connect(f"/api/v1/sessions/{session.id}/control")
        await socket.receive_json()
        async with asyncio.timeout(30):  # half of what aiohttp waits for sockets that stay open
            await app.client.server.close()
        await socket.close()
