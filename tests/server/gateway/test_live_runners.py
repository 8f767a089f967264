"""Live runners: heartbeats, sessions, channels that the runner asks for, and requests through the orchestrator's proxy.

The orchestrator's side is the gateway's own, which has go-livepeer's routes, headers and states.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from engine_harness import fill, to_text
from engine_worker import brightness, working
from gateway_harness import SECRET, Network, network
from on_loop import on_loop, until
from pydantic import SecretStr
from worker_harness import Invert, Worker, camera, listening, serving

from comfystream.byoc import StreamServer
from comfystream.byoc.capability import Capability, OrchestratorAccess
from comfystream.byoc.live_runner import PERSISTENT, SINGLE_SHOT, LiveRunner, RunnerPrice
from comfystream.engine.child import ChildEngine
from comfystream.errors import ConfigError
from comfystream_server.gateway.app import runners_key

APP = "live-video-to-video/test"


def runner_of(net: Network, url: str, capacity: int = 1, mode: str = PERSISTENT, secret: str = SECRET) -> LiveRunner:
    access = OrchestratorAccess(net.url, SecretStr(secret))
    return LiveRunner(access, Capability("test", url, "what it does", capacity), mode=mode)


@contextlib.asynccontextmanager
async def joined(net: Network, worker: Worker, **options: Any) -> AsyncIterator[LiveRunner]:
    """A worker on the gateway's list, as a live runner that was told to begin after it."""
    runner = runner_of(net, worker.url, **options)
    runner.begin(worker.server.worker)
    try:
        await until(lambda: runner.beats, "a heartbeat")
        yield runner
    finally:
        await runner.close()


async def found(net: Network) -> list[dict[str, Any]]:
    status, reply = await net.call("GET", "/discovery")
    assert status == 200
    return list(reply[0]["runners"])


async def reserve(net: Network) -> dict[str, Any]:
    (runner,) = await found(net)
    status, reply = await net.call("POST", runner["url"])
    assert status == 200, reply
    return dict(reply)


async def stop(net: Network, session: dict[str, Any]) -> int:
    return (await net.call("POST", session["control_url"] + "/stop"))[0]


@on_loop
async def test_a_runner_is_found_once_it_is_ready_and_not_after_it_left() -> None:
    processor = Invert()
    processor.may_load.clear()
    async with network() as net, serving(processor, is_ready=False) as worker:
        runner = runner_of(net, worker.url, capacity=2)
        runner.begin(worker.server.worker)
        assert (await worker.call("GET", "/healthz"))[0] == 503
        assert await found(net) == [], "not before it is ready"
        processor.may_load.set()
        await until(lambda: runner.beats, "a heartbeat")
        assert (await worker.call("GET", "/healthz"))[0] == 200
        (shown,) = await found(net)
        expected = {"app": APP, "mode": "persistent", "capacity": 2, "capacity_used": 0, "capacity_available": 2}
        assert expected.items() <= shown.items()
        assert shown["metadata"] == "what it does"
        assert worker.url not in str(shown), "clients go through the orchestrator"
        assert net.channels, "the one on which it is told of sessions"
        await runner.close()
        assert await found(net) == []
        assert not net.channels


@on_loop
async def test_a_wrong_secret_is_told_and_keeps_it_out(caplog: pytest.LogCaptureFixture) -> None:
    async with network() as net, serving() as worker:
        runner = runner_of(net, worker.url, secret="wr0ng")
        runner.begin(worker.server.worker)
        await until(lambda: "is ORCH_SECRET right" in caplog.text, "the hint")
        assert await found(net) == []
        assert "wr0ng" not in caplog.text
        await runner.close()


@on_loop
async def test_a_session_streams_through_channels_that_the_runner_asked_for(shared_engine: ChildEngine) -> None:
    async with network() as net, working(shared_engine) as worker, joined(net, worker):
        session = await reserve(net)
        (shown,) = await found(net)
        assert (shown["capacity_used"], shown["capacity_available"]) == (1, 0)
        body = {"prompts": fill(1.0), "width": 64, "height": 48}
        status, told = await net.call("POST", session["app_url"] + "/start_stream", json=body)
        assert status == 200, told
        assert (told["session"], told["kind"]) == (session["session_id"], "stream")
        assert told["modalities"]["video"] == {"input": True, "output": True}
        assert told["modalities"]["text"] == {"input": False, "output": False}
        assert set(told) == {"session", "kind", "in", "out", "modalities"}, "only the channels that it needs"
        async with listening(told["out"]) as out, camera(told["in"], value=60):
            await until(lambda: brightness(out) > 220, "the workflow's white")
            status, again = await net.call("POST", session["app_url"] + "/start_stream", json=body)
            assert (status, again) == (200, told), "a second start is the same one"
            status, said = await net.call("POST", session["app_url"] + "/update_stream", json={"prompts": fill(0.0)})
            assert status == 200, said
            await until(lambda: 0 <= brightness(out) < 40, "the new workflow's black")
            for bad in ({"prompts": {"a": {"class_type": "NoSuch", "inputs": {}}}}, {"prompts": "{"}, [1]):
                status, said = await net.call("POST", session["app_url"] + "/update_stream", json=bad)
                assert (status, said["status"]) == (400, "error")
            assert await stop(net, session) == 204
            await until(lambda: out.is_over, "the end of the output")
        await worker.until_idle()
        await until(lambda: len(net.channels) == 1, "its channels are gone")
        assert (await net.call("POST", session["app_url"] + "/start_stream", json=body))[0] == 404
        assert (await found(net))[0]["capacity_available"] == 1


@on_loop
async def test_analyze_gives_texts_by_channel_and_by_request(shared_engine: ChildEngine) -> None:
    async with network() as net, working(shared_engine) as worker, joined(net, worker):
        session = await reserve(net)
        status, said = await net.call("POST", session["app_url"] + "/analyze", json={"prompts": fill(1.0)})
        assert (status, said["message"]) == (400, "analyze requires a workflow with text output")
        assert len(net.channels) == 1, "none was made for that"
        body = {"prompts": to_text("TestBrightness", "value"), "width": 0, "height": 0}
        status, told = await net.call("POST", session["app_url"] + "/analyze", json=body)
        assert status == 200, told
        assert set(told) == {"session", "kind", "in", "text", "modalities"}
        assert told["kind"] == "analyze"
        async with listening(told["text"]) as texts, camera(told["in"]):
            await until(lambda: [line for line in texts.documents if "text" in line], "a line")
            line = next(line for line in texts.documents if "text" in line)
            assert line["type"] == "text"
            status, said = await net.call("GET", session["app_url"] + "/text")
            assert (status, said["session"]) == (200, session["session_id"])
            assert line["text"] in said["texts"]
            change = {"prompts": fill(0.5)}
            status, said = await net.call("POST", session["app_url"] + "/update_stream", json=change)
            assert (status, "text output" in said["message"]) == (400, True)
        await stop(net, session)


@on_loop
async def test_input_that_ends_frees_the_session_for_another_start() -> None:
    async with network() as net, serving() as worker, joined(net, worker):
        session = await reserve(net)
        for _ in range(2):
            status, told = await net.call("POST", session["app_url"] + "/start_stream", json={})
            assert status == 200, told
            async with listening(told["out"]) as out:
                async with camera(told["in"], value=60):
                    await until(lambda: brightness(out) > 180, "the negative")
                net.gateway.orchestrator.trickle.close(f"{session['session_id']}-in")
                await until(lambda: out.is_over, "the output ends as well")
            await worker.until_idle()
            status, said = await net.call("GET", session["app_url"] + "/text")
            assert (status, said["code"]) == (404, "no_session")
        assert await stop(net, session) == 204


@on_loop
async def test_places_are_counted_by_session_at_both_ends() -> None:
    async with network() as net, serving(capacity=2) as worker, joined(net, worker, capacity=2):
        sessions = [await reserve(net) for _ in range(2)]
        (shown,) = await found(net)
        status, said = await net.call("POST", shown["url"])
        assert (status, said["error"]["code"]) == (503, "no_capacity")
        for session in sessions:
            status, said = await net.call("POST", session["app_url"] + "/start_stream", json={})
            assert status == 200, said
        headers = {"Livepeer-Session-Id": "third", "Livepeer-Session-Control": "http://127.0.0.1:9/x"}
        status, said = await worker.call("POST", "/start_stream", {}, headers=headers)
        assert (status, said["code"]) == (409, "in_use")
        await stop(net, sessions[0])
        await until(lambda: len(worker.server.worker.streams) == 1, "one of them ends")
        assert worker.server.worker.streams[0].id == sessions[1]["session_id"]


@on_loop
async def test_release_shows_in_heartbeats_when_the_channel_for_it_is_dead() -> None:
    async with network() as net, serving() as worker, joined(net, worker) as runner:
        session = await reserve(net)
        assert (await net.call("POST", session["app_url"] + "/start_stream", json={}))[0] == 200
        await until(lambda: runner.sessions, "it knows of the session")
        net.gateway.orchestrator.trickle.close(next(name for name in net.channels if name.endswith("-o2r")))
        runner.sessions.add("session_of_old")
        await until(lambda: runner.sessions == {session["session_id"]}, "the orchestrator's list counts")
        assert worker.server.worker.streams, "what it still has goes on"


@on_loop
async def test_an_orchestrator_that_restarts_gets_its_runner_back() -> None:
    async with serving() as worker, contextlib.AsyncExitStack() as first:
        net = await first.enter_async_context(network())
        port = net.port
        runner = runner_of(net, worker.url)
        runner.begin(worker.server.worker)
        await until(lambda: runner.beats, "a heartbeat")
        session = await reserve(net)
        assert (await net.call("POST", session["app_url"] + "/start_stream", json={}))[0] == 200
        await first.aclose()
        async with network(port=port) as again:
            await until(lambda: list(again.app[runners_key]), "the registration with the new one")
            await worker.until_idle()
            session = await reserve(again)
            status, told = await again.call("POST", session["app_url"] + "/start_stream", json={})
            assert status == 200, told
            assert await stop(again, session) == 204
            await runner.close()


@on_loop
async def test_a_worker_with_a_token_takes_sessions_of_its_orchestrator_and_no_others() -> None:
    async with network() as net:
        async with serving(token="t0ken") as probe:
            headers = {"Livepeer-Session-Id": "forged", "Livepeer-Session-Control": net.url}
            assert (await probe.call("POST", "/start_stream", {}, headers=headers))[0] == 401
            assert (await probe.call("GET", "/healthz"))[0] == 200
            port = probe.server.port  # a runner has to know it before its server begins
        runner = runner_of(net, f"http://127.0.0.1:{port}")
        server = StreamServer(Invert(), port, "127.0.0.1", "test", token="t0ken", beside=[runner])
        await server.start()
        try:
            await until(lambda: runner.beats, "a heartbeat")
            session = await reserve(net)
            status, told = await net.call("POST", session["app_url"] + "/start_stream", json={})
            assert status == 200, told
            url = f"http://127.0.0.1:{port}/text"
            headers = {"Livepeer-Session-Id": "forged", "Livepeer-Runner-Route": runner.runner_id}
            assert (await net.call("GET", url, headers=headers))[0] == 401
        finally:
            await server.close()


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "words"),
    [
        ("/start_stream", {}, {}, 400, "missing Livepeer-Session-Id header"),
        ("/start_stream", {"Livepeer-Session-Id": "s"}, {}, 400, "missing Livepeer-Session-Control header"),
        ("/start_stream", "all", {"width": 64}, 400, "together"),
        ("/start_stream", "all", [], 400, "JSON object"),
        ("/start_stream", "all", {}, 502, "cannot be asked for channels"),
        ("/capability/none/start_stream", "all", {}, 400, "no capability"),
        ("/update_stream", "all", {}, 404, "no active session"),
    ],
)
@on_loop
async def test_what_cannot_be_done_is_said(path: str, headers: Any, body: Any, status: int, words: str) -> None:
    if headers == "all":
        headers = {"Livepeer-Session-Id": "s", "Livepeer-Session-Control": "http://127.0.0.1:9/runner/r/session/s"}
    async with serving() as worker:
        given, said = await worker.call("POST", path, body, headers=headers)
        assert given == status, said
        assert words in said["message"]
        assert worker.server.worker.state == "IDLE"


@on_loop
async def test_the_orchestrators_side_asks_for_the_sessions_token() -> None:
    async with network() as net, serving() as worker, joined(net, worker) as runner:
        session = await reserve(net)
        path = f"/runner/{runner.runner_id}/session/{session['session_id']}/channels"
        body = {"channels": [{"name": "in", "mime_type": "video/mp2t"}]}
        assert (await net.call("POST", path, json=body))[0] == 401
        (listed,) = [one for one in net.app[runners_key] if one.id == runner.runner_id]
        headers = {"Livepeer-Session-Token": listed.secret(f"session:{session['session_id']}")}
        for bad in ({}, {"channels": []}, {"channels": [{"name": "a b"}]}, {"channels": [{}] * 26}):
            assert (await net.call("POST", path, json=bad, headers=headers))[0] == 400
        status, made = await net.call("POST", path, json=body, headers=headers)
        (channel,) = made["channels"]
        assert status == 200
        assert channel["channel_name"] == f"{session['session_id']}-in"
        assert (channel["mime_type"], "internal_url" in channel) == ("video/mp2t", True)
        assert (await net.call("DELETE", path, json={"channels": ["in"]}, headers=headers))[1] == {"deleted": ["in"]}
        assert (await net.call("DELETE", path, json={"channels": ["in"]}, headers=headers))[0] == 404
        assert (await net.call("POST", "/runners/heartbeat", json={"runner_url": "x", "app": "a"}))[0] == 400


@on_loop
async def test_single_requests_go_through_with_a_session_of_their_own() -> None:
    seen: list[dict[str, str]] = []

    def routes(app: web.Application) -> None:
        async def echo(request: web.Request) -> web.StreamResponse:
            seen.append(dict(request.headers))
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Metadata": "{}"})
            await response.prepare(request)
            await response.write(f"data: {await request.text()} {request.query_string}\n\n".encode())
            return response

        app.router.add_post("/echo", echo)

    async with network() as net, serving(more_routes=routes) as worker, joined(net, worker, mode=SINGLE_SHOT):
        (shown,) = await found(net)
        assert (shown["app"], shown["mode"], shown["url"].rsplit("/", 1)[1]) == ("batch/test", "single-shot", "app")
        async with net.session.post(f"{shown['url']}/echo?a=b", data="hello") as response:
            assert (response.status, response.headers["X-Metadata"]) == (200, "{}")
            assert response.content_type == "text/event-stream"
            assert await response.text() == "data: hello a=b\n\n"
        assert {"Livepeer-Session-Id", "Livepeer-Session-Token", "Livepeer-Session-Control"} <= set(seen[0])
        assert (await found(net))[0]["capacity_used"] == 0
        status, said = await net.call("POST", shown["url"].removesuffix("app") + "session")
        assert (status, said["error"]["code"]) == (400, "wrong_mode")


@on_loop
async def test_an_answer_that_breaks_off_is_no_whole_one_for_the_client(caplog: pytest.LogCaptureFixture) -> None:
    def routes(app: web.Application) -> None:
        async def half(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"the first half")
            assert request.transport is not None
            request.transport.abort()
            return response

        app.router.add_post("/half", half)

    async with network() as net, serving(more_routes=routes) as worker, joined(net, worker, mode=SINGLE_SHOT):
        (shown,) = await found(net)
        with pytest.raises(aiohttp.ClientError):
            async with net.session.post(f"{shown['url']}/half") as response:
                await response.read()
        await until(lambda: "its answer broke off" in caplog.text, "the reason in the log")
        assert "defect" not in caplog.text
        (again,) = await found(net)
        assert again["capacity_used"] == 0


def test_a_runner_that_costs_nothing_is_refused_here_already() -> None:
    assert RunnerPrice(0.5, "fixed").body() == {"price": 0.5, "currency": "usd", "unit": "fixed"}
    for price in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            RunnerPrice(price)


def test_the_flags_of_live_runners(comfystream: Any, tmp_path: Path) -> None:
    ended = comfystream("byoc", "--live-runner")
    assert (ended.code, "ORCH_URL and ORCH_SECRET" in ended.errors[0]) == (2, True)
    assert "single-shot" in comfystream("byoc", "--runner-mode", "often").err
