"""The server's routes, as old and new clients call them."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from app_harness import App, app_with
from engine_harness import fill
from on_loop import on_loop, until

from comfystream.byoc import stalls
from comfystream.engine.child import ChildEngine


@on_loop
async def test_health_tells_old_clients_ok_and_new_ones_the_truth(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        for path in ("/health", "/live/health", "/", "/live/"):
            response = await app.client.get(path)
            assert (response.status, await response.text()) == (200, "OK")
            assert response.content_type == "application/json"
        await app.parts.host.get()
        status, truth = await app.json("GET", "/health", headers={"Accept": "application/json"})
        assert (status, truth["engine"]["state"]) == (200, "ready")


@on_loop
async def test_health_is_bad_when_the_engine_did_not_start() -> None:
    async with app_with(None) as app:
        async with app.client.get("/health") as response:
            assert response.status in (200, 503)
        await until(lambda: app.parts.host._starting.done())
        response = await app.client.get("/health")
        assert (response.status, await response.text()) == (503, "ENGINE FAILED")


@on_loop
async def test_a_browser_gets_the_page_at_the_root(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        response = await app.client.get("/", headers={"Accept": "text/html,*/*"})
        assert "<title>ComfyStream</title>" in await response.text()
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        for name in ("page.js", "page.css", "stage.css", "icon.svg", "source.js", "link.js", "workflows.js"):
            assert (await app.client.get(f"/static/{name}")).status == 200
        for name in ("../app.py", "%2e%2e%2fapp.py", "nothing"):
            assert (await app.client.get(f"/static/{name}")).status == 404


@on_loop
async def test_workflows_are_listed_and_read(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        _, listed = await app.json("GET", "/api/v1/workflows")
        assert {"edges", "cartoon", "old_film"} <= {one["name"] for one in listed}
        status, one = await app.json("GET", "/api/v1/workflows/bloom")  # in the editor's format
        assert status == 200
        assert all("class_type" in node for node in one["workflow"].values())
        status, error = await app.json("GET", "/api/v1/workflows/edgse")
        assert (status, error["error"]["code"]) == (404, "unknown_workflow")
        assert "edges" in error["error"]["hint"]


@on_loop
async def test_statistics_and_metrics_of_nobody(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        for prefix in ("", "/live"):
            assert await app.json("GET", f"{prefix}/streams/stats") == (200, {})
            assert await app.json("GET", f"{prefix}/stream/x/stats") == (200, {"error": "Stream not found"})
            status, text = await app.json("GET", f"{prefix}/metrics")
            assert status == 200
            assert "\nstream_fps 0.0\n" in text
            assert "process_" in text


@on_loop
async def test_prompt_is_accepted_and_a_bad_one_is_not(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        assert await app.json("POST", "/prompt", fill(0.5)) == (200, "OK")
        assert await app.json("POST", "/live/prompt", [fill(0.5)]) == (200, "OK")
        status, error = await app.json("POST", "/prompt", {"1": {"inputs": {}}})
        assert (status, bool(error["error"]["message"])) == (422, True)


BAD_BODIES: list[Any] = [
    None,
    [],
    "text",
    {},
    {"offer": None},
    {"offer": {"sdp": 1}},
    {"offer": {"sdp": ""}},
    {"offer": {"sdp": "v=0", "type": "answer"}},
    {"offer": {"sdp": "x" * 300_000}},
    {"offer": {"sdp": "v=0"}, "resolution": {"width": -1, "height": 2}},
    {"offer": {"sdp": "v=0"}, "prompts": "{"},
    {"offer": {"sdp": "v=0"}, "prompts": [1, 2]},
    {"offer": {"sdp": "v=0"}, "prompts": {"1": {"class_type": "Nobody"}}},
    {"offer": {"sdp": "v=0"}, "workflow": "../../pyproject"},
    {"offer": {"sdp": "v=0"}, "session": "nobody"},
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: json.dumps(body)[:40])
@on_loop
async def test_a_bad_offer_is_the_callers_fault_and_leaves_nothing(shared_engine: ChildEngine, body: Any) -> None:
    async with app_with(shared_engine) as app:
        status, error = await app.json("POST", "/offer", body)
        assert 400 <= status < 500, error
        assert error["error"]["message"]
        assert len(app.parts.sessions) == 0


@on_loop
async def test_bodies_that_are_no_json_or_too_large(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, max_body_mb=1) as app:
        for data in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
            response = await app.client.post("/offer", data=data)
            assert response.status == 400
        response = await app.client.post("/offer", data=b" " * (2 << 20))
        assert response.status == 413


async def _session(app: App) -> Any:
    session = await app.parts.sessions.create()
    session.attach()
    return session


@on_loop
async def test_the_control_protocol_by_rest(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        path = f"/api/v1/sessions/{(await _session(app)).id}"

        async def say(**message: Any) -> tuple[int, Any]:
            return await app.json("POST", f"{path}/control", message)

        status, reply = await say(type="patch", patches=[{"node": "fill", "input": "number", "value": 1}])
        assert (status, reply["error"]["code"]) == (409, "no_workflow")
        status, reply = await say(type="set_workflow", name="edges", id="a")
        assert (status, reply["ok"], reply["id"], reply["revision"]) == (200, True, "a", 1)
        kinds = {(p["input"], p["kind"]) for p in reply["info"]["parameters"]}
        assert {("blur_radius", "int"), ("sigma", "float"), ("low_threshold", "float")} <= kinds
        node = next(p["node"] for p in reply["info"]["parameters"] if p["input"] == "blur_radius")
        patch = {"node": node, "input": "blur_radius", "value": 5}
        status, reply = await say(type="patch", patches=[patch], base_revision=1)
        assert (status, reply["revision"]) == (200, 2)
        status, reply = await say(type="patch", patches=[patch], base_revision=1)
        assert (status, reply["error"]["code"], reply["revision"]) == (409, "stale_revision", 2)
        status, reply = await say(type="patch", patches=[{**patch, "value": 9999}])
        assert status == 422
        assert reply["error"]["node"] == node
        status, reply = await say(type="patch", patches=[{**patch, "valeu": 3}])
        assert (status, reply["error"]["code"]) == (400, "bad_message")
        assert reply["error"]["field"].startswith("patch.patches.0")
        assert (await say(type="undo"))[1]["revision"] == 1
        assert (await say(type="redo"))[1]["revision"] == 2
        assert (await say(type="redo"))[1]["error"]["code"] == "nothing_to_redo"
        assert (await say(type="pause"))[0] == 200
        assert (await app.json("GET", path))[1]["state"] == "paused"
        assert (await say(type="resume"))[0] == 200
        assert (await say(type="fail_policy", policy="slate"))[0] == 200
        assert (await say(type="fail_policy", policy="explode"))[0] == 400
        _, info = await app.json("GET", path)
        assert (info["state"], info["fail_policy"], info["name"]) == ("running", "slate", "edges")
        assert (await app.json("DELETE", path))[0] == 204
        assert (await say(type="pause"))[0] == 404


@on_loop
async def test_the_control_protocol_by_websocket(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        session = await _session(app)
        async with app.client.ws_connect(f"/api/v1/sessions/{session.id}/control") as socket:
            assert (await socket.receive_json())["info"]["state"] == "idle"
            heard: list[dict[str, Any]] = []

            async def reply_to(text: str) -> dict[str, Any]:
                await socket.send_str(text)
                while (message := await socket.receive_json())["type"] != "reply":
                    heard.append(message)
                return message

            for text in ("", "{", "[]", "null", '{"type":"explode"}', '{"v":2,"type":"undo"}', "[" * 50_000):
                assert (await reply_to(text))["ok"] is False
            done = await reply_to(json.dumps({"type": "set_workflow", "workflow": fill(0.5), "id": 7}))
            assert (done["ok"], done["id"]) == (True, 7)
            assert {"state", "revision", "progress"} <= {message["event"] for message in heard}
        assert session.state == "running"


@on_loop
async def test_what_is_sent_while_the_engine_starts_is_done_in_order(shared_engine: ChildEngine) -> None:
    starts = threading.Event()
    async with app_with(shared_engine, starts) as app:
        session = await _session(app)
        async with app.client.ws_connect(f"/api/v1/sessions/{session.id}/control") as socket:
            patch = {"node": "fill", "input": "number", "value": 0.25}
            await socket.send_json({"type": "set_workflow", "workflow": fill(0.5), "id": 1})
            await socket.send_json({"type": "patch", "patches": [patch], "id": 2})
            await asyncio.sleep(0.2)
            starts.set()
            replies = {}
            while len(replies) < 2:
                message = await socket.receive_json()
                if message["type"] == "reply" and message.get("id"):
                    replies[message["id"]] = message
        assert [replies[id]["ok"] for id in (1, 2)] == [True, True], replies
        assert session.workflow.nodes["fill"].inputs["number"] == 0.25


@on_loop
async def test_off_loopback_a_token_is_asked_for(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, host="0.0.0.0", token="secret", viewer_token="look") as app:
        assert (await app.client.get("/health")).status == 200
        assert (await app.json("GET", "/api/v1/sessions"))[0] == 401
        viewer, operator = ({"Authorization": f"Bearer {token}"} for token in ("look", "secret"))
        assert (await app.json("GET", "/api/v1/sessions", headers=viewer))[0] == 200
        assert (await app.json("POST", "/prompt", fill(1), headers=viewer))[0] == 403
        assert (await app.json("POST", "/prompt", fill(1), headers=operator))[0] == 200
        assert (await app.json("GET", "/api/v1/sessions?token=secret"))[0] == 200
        assert (await app.json("GET", "/api/v1/sessions?token=other"))[0] == 401


def test_off_loopback_there_is_always_a_token() -> None:
    from comfystream.settings import ServerSettings
    from comfystream_server.http.guard import Guard

    assert Guard.for_settings(ServerSettings()).token == ""
    assert len(Guard.for_settings(ServerSettings(host="0.0.0.0")).token) > 20
    assert len(Guard.for_settings(ServerSettings(host="example.org")).token) > 20


@on_loop
async def test_pages_of_other_sites_are_refused(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, allowed_origins=("https://studio.example",)) as app:
        own = f"http://127.0.0.1:{app.client.port}"
        expectations = {own: 200, "https://studio.example": 200, "https://evil.example": 403, "null": 403}
        for origin, expected in expectations.items():
            response = await app.client.get("/streams/stats", headers={"Origin": origin})
            assert response.status == expected
        assert response.headers.get("Access-Control-Allow-Origin") is None
        response = await app.client.get("/streams/stats", headers={"Host": "rebound.example"})
        assert response.status == 403
        response = await app.client.options("/offer", headers={"Origin": "https://studio.example"})
        assert response.headers["Access-Control-Allow-Origin"] == "https://studio.example"


@on_loop
async def test_an_unknown_path_is_a_json_404(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        status, error = await app.json("GET", "/api/v1/nothing")
        assert (status, error["error"]["code"]) == (404, "http_404")
        assert (await app.json("GET", "/offer"))[0] == 405


@on_loop
async def test_a_body_that_stops_coming_ends_its_request(
    shared_engine: ChildEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STALLED_S", 0.2)
    async with app_with(shared_engine) as app:
        for path in ("/offer", "/api/v1/sessions", "/whip/live"):
            reader, writer = await asyncio.open_connection("127.0.0.1", app.client.port)
            kind = "application/sdp" if path == "/whip/live" else "application/json"
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n{{"
            writer.write(head.encode())
            said = await asyncio.wait_for(reader.read(400), 10)
            assert said.startswith(b"HTTP/1.1 408"), (path, said)
            assert b"the body stopped coming" in said
            writer.close()
