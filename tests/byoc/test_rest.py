"""The REST side: conformance 47 to 53 and 61 of the contract, and what callers send that is no request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from on_loop import on_loop, until
from worker_harness import Invert, camera, listening, orchestrator, serving

from comfystream.byoc.worker import WorkerOptions

STATE = {
    "status", "state", "error_message", "pipeline_ready", "active_streams", "startup_complete", "pipeline_state",
    "additional_info",
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["gateway_request_id", "params", "control_url", "subscribe_url", "width", "height", "max_framerate", "prompts"]


@pytest.mark.parametrize("path", ["/stream/start", "/api/stream/start", "/live-video-to-video"])
@on_loop
async def test_47_a_start_as_orchestrators_send_it(path: str) -> None:
    async with orchestrator() as orch, serving() as worker:
        body = {**orch.stream(), "params": None, "stream_key": "x", "extra": {"deep": [1]}}
        async with asyncio.timeout(5):
            status, said = await worker.call("POST", path, body, headers={"X-Stream-Id": "s1"})
        assert status == 200
        assert {**said, "current_state": 0} == {
            "status": "success",
            "message": "Stream started successfully",
            "request_id": "s1",
            "current_state": 0,
        }
        assert set(said["current_state"]) == STATE
        assert said["current_state"]["status"] == "OK"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"params": {}}', "application/json"),
        (b'{"gateway_request_id": 5}', "application/json"),
        (b'{"gateway_request_id": "s2"}', "text/plain"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"gateway_request_id": "s2", "params": 7}', "application/json"),
        (b'{"gateway_request_id": "s2", "control_url": "gopher://x/y"}', "application/json"),
        (b'{"gateway_request_id": "s2", "params": {"width": 640}}', "application/json"),
    ],
)
@on_loop
async def test_48_a_bad_start_is_told_so_and_disturbs_nobody(data: bytes, kind: str) -> None:
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
            await until(lambda: out.segments, "output")
            status, said = await worker.call("POST", "/stream/start", data=data, headers={"Content-Type": kind})
            assert (status, said["status"]) == (400, "error")
            assert said["message"].startswith("Error starting stream: ")
            assert set(said["current_state"]) == STATE
            seen = len(out.segments)
            await until(lambda: len(out.segments) > seen, "more output")
        assert processor.starts == 1


@on_loop
async def test_49_a_second_start_finds_the_place_taken() -> None:
    async with orchestrator() as orch, serving() as worker:
        bodies = [orch.stream(id) for id in ("a", "b")]
        answers = await asyncio.gather(*(worker.call("POST", "/stream/start", body) for body in bodies))
        assert sorted(status for status, _ in answers) == [200, 503]
        taken = next(said for status, said in answers if status == 503)
        assert taken["message"] == "Pipeline is still in use"
        running = next(said["request_id"] for status, said in answers if status == 200)
        again = next(body for body in bodies if body["gateway_request_id"] == running)
        assert (await worker.call("POST", "/stream/start", again))[0] == 200, "the same start again is the same stream"
        assert len(worker.server.worker.streams) == 1


@on_loop
async def test_49_capacity_is_as_many_streams_and_no_more() -> None:
    async with orchestrator() as orch, serving(capacity=2) as worker:
        bodies = [orch.stream(id) for id in ("a", "b", "c")]
        codes = [(await worker.call("POST", "/stream/start", body))[0] for body in bodies]
        assert codes == [200, 200, 503]
        status, said = await worker.call("POST", "/stream/params", {"x": 1})
        assert (status, "X-Stream-Id" in said["message"]) == (400, True)
        await worker.call("POST", "/stream/stop", headers={"X-Stream-Id": "a"})
        assert (await worker.call("POST", "/stream/start", bodies[2]))[0] == 200


@on_loop
async def test_50_a_start_while_loading_waits_and_then_gives_up() -> None:
    processor = Invert()
    processor.may_load.clear()
    async with orchestrator() as orch, serving(processor, is_ready=False) as worker:
        worker.server.worker.options = WorkerOptions(size=(64, 48), load_wait_s=0.2)
        status, said = await worker.call("POST", "/stream/start", orch.stream())
        assert (status, said["message"]) == (503, "Pipeline is still initializing. Please wait for IDLE status.")
        assert said["current_state"]["status"] == "LOADING"
        worker.server.worker.options = WorkerOptions(size=(64, 48), load_wait_s=20)
        start = asyncio.create_task(worker.call("POST", "/stream/start", orch.stream()))
        await until(lambda: worker.server.worker.streams, "the start to wait")
        processor.may_load.set()
        assert (await start)[0] == 200


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"width": 640}, "Both 'width' and 'height' must be provided together"),
        ({"width": 0, "height": 480}, "Width and height must be valid integers or integer strings"),
        ({"width": -1, "height": 480}, "Width and height must be valid integers or integer strings"),
        ({"width": None, "height": 480}, "Width and height must be valid integers or integer strings"),
        ({"width": "640.0", "height": 480}, "Width and height must be valid integers or integer strings"),
        ({"width": 1 << 40, "height": 480}, "Width and height cannot exceed 8192"),
        ({"max_framerate": 61}, "max_framerate cannot exceed 60 FPS"),
        ({"max_framerate": 0}, "max_framerate must be a positive integer"),
        ({"max_framerate": "fast"}, "max_framerate must be a valid integer"),
        ({"detect_out_resolution": "maybe"}, "detect_out_resolution must be a boolean value"),
    ],
)
@on_loop
async def test_51_parameters_are_checked_at_the_start_and_later(params: dict[str, Any], words: str) -> None:
    async with orchestrator() as orch, serving() as worker:
        status, said = await worker.call("POST", "/stream/start", orch.stream(params=params))
        assert (status, said["message"]) == (400, f"Error starting stream: {words}")
        await worker.call("POST", "/stream/start", orch.stream(params={"width": "640", "height": "481"}))
        assert worker.server.worker.streams[0].params == {"width": 640, "height": 480}
        status, said = await worker.call("POST", "/stream/params", params)
        assert (status, said["message"]) == (400, f"Parameter update failed: {words}")


@on_loop
async def test_52_parameters_without_a_stream_and_refused_ones() -> None:
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        status, said = await worker.call("POST", "/stream/params", {"strength": 1})
        assert (status, said) == (400, {"status": "error", "message": "No active stream to update"})
        await worker.call("POST", "/stream/start", orch.stream())
        status, said = await worker.call("POST", "/stream/params", {"bad": True})
        assert (status, said["message"]) == (400, "Parameter update failed: ValueError: bad is not a value")
        assert await worker.status() == "OK"
        assert (await worker.call("POST", "/stream/params", {"strength": 1}))[0] == 200
        assert processor.params == [{"strength": 1}]
        foreign = await worker.call("POST", "/stream/params", {"strength": 2}, headers={"X-Stream-Id": "other"})
        assert foreign[0] == 404


@on_loop
async def test_53_stop_takes_whatever_it_is_sent() -> None:
    async with orchestrator() as orch, serving() as worker:
        body = orch.stream()
        await worker.call("POST", "/stream/start", body)
        foreign = await worker.call("POST", "/stream/stop", headers={"X-Stream-Id": "other"})
        assert (foreign[0], len(worker.server.worker.streams)) == (200, 1)
        stopped = await worker.call(
            "POST", "/stream/stop", data=b"swapping: orchestrator is slow", headers={"Content-Type": ""}
        )
        assert stopped == (200, {"status": "success", "message": "Stream stopped successfully"})
        assert (await worker.call("POST", "/stream/stop"))[0] == 200
        assert await worker.status() == "IDLE"
        assert (await worker.call("POST", "/stream/start", body))[0] == 200


@on_loop
async def test_61_what_it_tells_about_itself() -> None:
    processor = Invert()
    processor.may_load.clear()
    async with orchestrator() as orch, serving(processor, is_ready=False) as worker:
        assert await worker.call("GET", "/health") == (200, {"status": "LOADING"})
        processor.may_load.set()
        await worker.until_idle()
        assert await worker.call("GET", "/health") == (200, {"status": "IDLE"})
        status, version = await worker.call("GET", "/version")
        assert (status, version["pipeline"], version["model_id"], set(version)) == (
            200, "byoc", "test", {"pipeline", "model_id", "version"},
        )  # fmt: skip
        assert await worker.call("GET", "/app-version") == (200, {"version": "0.0.1"})
        for path, field in (("/hardware/info", "gpu_info"), ("/hardware/stats", "gpu_stats")):
            status, said = await worker.call("GET", path)
            assert (status, set(said), type(said[field])) == (200, {"pipeline", "model_id", field}, dict)
        body = orch.stream()
        assert (await worker.call("GET", "/stream/status"))[1]["client_active"] is False
        await worker.call("POST", "/stream/start", body)
        status, said = await worker.call("GET", "/api/stream/status")
        assert set(said) == STATE | {"client_active", "client_running", "fps", "lost", "current_params"}
        assert (said["status"], said["client_running"], said["pipeline_state"]) == ("OK", True, "RUNNING")
        assert said["current_params"]["gateway_request_id"] == "s1"


@on_loop
async def test_61_health_is_200_when_loading_failed_and_it_recovers() -> None:
    class Broken(Invert):
        async def initialize(self) -> None:
            self.loads += 1
            if self.loads == 1:
                raise OSError("no such model file")

    processor = Broken()
    async with orchestrator() as orch, serving(processor, is_ready=False) as worker:
        await until(lambda: worker.server.worker.state == "ERROR", "ERROR")
        assert await worker.call("GET", "/health") == (200, {"status": "ERROR"})
        assert "no such model file" in (await worker.call("GET", "/stream/status"))[1]["error_message"]
        assert (await worker.call("POST", "/stream/start", orch.stream()))[0] == 200, "a start makes it try again"


@on_loop
async def test_a_token_is_asked_for_and_only_its_absence_is_401() -> None:
    async with orchestrator() as orch, serving(token="t0ken") as worker:
        assert (await worker.call("GET", "/health"))[0] == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "t0ken"}):
            assert (await worker.call("POST", "/stream/start", orch.stream(), headers=headers))[0] == 401
        good = {"Authorization": "Bearer t0ken"}
        assert (await worker.call("POST", "/stream/start", {}, headers=good))[0] == 400
        assert (await worker.call("POST", "/stream/start", orch.stream(), headers=good))[0] == 200


@on_loop
async def test_pages_of_other_sites_cannot_stop_a_stream() -> None:
    async with orchestrator() as orch, serving() as worker:
        await worker.call("POST", "/stream/start", orch.stream())
        foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
        assert (await worker.call("POST", "/stream/stop", data=b"", headers=foreign))[0] == 403
        assert len(worker.server.worker.streams) == 1


@on_loop
async def test_wrong_methods_and_paths_are_answered_in_json() -> None:
    async with serving() as worker:
        assert (await worker.call("GET", "/stream/start"))[0] == 405
        assert (await worker.call("GET", "/nowhere"))[1]["status"] == "error"
        status, said = await worker.call(
            "POST", "/stream/start", data=b" " * (17 << 20), headers={"Content-Type": "application/json"}
        )
        assert (status, said["status"]) == (413, "error")


def test_whatever_is_sent_is_never_a_500() -> None:
    """One worker, many bodies; a stream that runs all the time is still there at the end."""

    async def run() -> None:
        async with orchestrator() as orch, serving() as worker:
            await worker.call("POST", "/stream/start", orch.stream())
            bodies: list[bytes] = []

            @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4) | JSON)
            def collect(document: Any) -> None:
                bodies.append(json.dumps(document).encode())

            collect()
            for number, body in enumerate(bodies):
                path = ("/stream/start", "/stream/params", "/live-video-to-video")[number % 3]
                status, said = await worker.call("POST", path, data=body, headers={"Content-Type": "application/json"})
                assert status < 500 or said["message"] == "Pipeline is still in use", (path, body, said)
            assert [stream.id for stream in worker.server.worker.streams] == ["s1"]

    asyncio.run(run())
