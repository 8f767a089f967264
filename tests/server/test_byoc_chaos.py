"""What goes wrong around an engine. After each the state is right, nothing is left, and a new start works at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_harness import Lent
from engine_harness import fill, link, node
from engine_worker import brightness, slow, working
from leak_check import nothing_is_left
from on_loop import on_loop, until
from worker_harness import Orchestrator, Worker, camera, listening, orchestrator, serving

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions, FailPolicy
from comfystream.session.live_options import LiveOptions
from comfystream.session.live_size import FrameSize
from comfystream_server.byoc.backend import WorkflowBackend

PACK = Path(__file__).parent.parent / "engine" / "testing_pack"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildEngine]:
    """One that tests may kill."""
    base = tmp_path_factory.mktemp("home")
    (base / "input").mkdir()
    made = ChildEngine(EngineOptions(packs=(str(PACK),), threads=1, folders=Folders(base=str(base))))
    yield made
    made.close()


async def runs(worker: Worker, orch: Orchestrator, id: str) -> None:
    """A new stream works at once."""
    body = orch.stream(id, params={"prompts": fill(1.0)})
    status, said = await worker.call("POST", "/stream/start", body)
    assert status == 200, said
    async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
        await until(lambda: brightness(out) > 220, "the workflow's white")
    assert (await worker.call("POST", "/stream/stop"))[0] == 200
    orch.end(id)


@pytest.mark.slow
@on_loop
async def test_stop_while_its_workflow_loads(engine: ChildEngine) -> None:
    async with orchestrator() as orch, working(engine) as worker:
        await runs(worker, orch, "warm")
        async with nothing_is_left(worker):
            body = orch.stream(params={"prompts": slow(0.5, 3.0)})
            assert (await worker.call("POST", "/stream/start", body))[0] == 200
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
                await until(lambda: out.segments, "the card")
                began = asyncio.get_running_loop().time()
                assert (await worker.call("POST", "/stream/stop"))[0] == 200
                assert await worker.status() == "IDLE"
                assert asyncio.get_running_loop().time() - began < 10
            orch.end()
        await runs(worker, orch, "again")


@pytest.mark.slow
@on_loop
async def test_channels_that_end_while_a_workflow_is_switched(engine: ChildEngine) -> None:
    async with orchestrator() as orch, working(engine) as worker:
        await runs(worker, orch, "warm")
        async with nothing_is_left(worker):
            body = orch.stream(params={"prompts": fill(1.0)})
            await worker.call("POST", "/stream/start", body)
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
                await until(lambda: brightness(out) > 220, "the workflow's white")
                change = worker.call("POST", "/stream/params", {"prompts": slow(0.5, 2.0)})
                changing = asyncio.create_task(change)
                await until(lambda: worker.server.worker.streams[0].is_changing, "the change to begin")
                orch.end()
                await worker.until_idle()
                assert (await changing)[0] == 400
        await runs(worker, orch, "again")


@on_loop
async def test_a_workflow_that_fails_leaves_nothing(engine: ChildEngine) -> None:
    fails = {**fill(1.0), "fill": node("TestFail", value=link("in"), on="all")}
    async with orchestrator() as orch, working(engine, policy=FailPolicy.HOLD) as worker:
        await runs(worker, orch, "warm")
        async with nothing_is_left(worker):
            body = orch.stream(params={"prompts": fails})
            await worker.call("POST", "/stream/start", body)
            async with listening(body["events_url"]) as heard, camera(body["subscribe_url"]):
                await until(lambda: heard.events("error"), "the error")
                assert await worker.status() == "OK"
                assert (await worker.call("POST", "/stream/stop"))[0] == 200
            orch.end()
        await runs(worker, orch, "again")


@pytest.mark.slow
@on_loop
async def test_an_engine_that_is_killed_comes_back_within_the_stream(engine: ChildEngine) -> None:
    async with orchestrator() as orch, working(engine) as worker:
        await runs(worker, orch, "warm")
        async with nothing_is_left(worker):
            body = orch.stream(params={"prompts": fill(1.0)})
            await worker.call("POST", "/stream/start", body)
            async with (
                listening(body["publish_url"]) as out,
                listening(body["events_url"]) as heard,
                camera(body["subscribe_url"], value=60),
            ):
                await until(lambda: brightness(out) > 220, "the workflow's white")
                os.kill(engine.pid, signal.SIGKILL)
                await until(lambda: heard.events("restart"), "word of the restart")
                seen = len(out.segments)
                await until(lambda: len(out.segments) > seen + 2 and brightness(out) > 220, "the white again")
            await worker.call("POST", "/stream/stop")
            assert await worker.status() == "IDLE"
            orch.end()
        await runs(worker, orch, "again")


@on_loop
async def test_a_start_while_the_engine_starts_waits_for_it(engine: ChildEngine) -> None:
    may_start = threading.Event()

    def start() -> Lent:
        assert may_start.wait(60)
        return Lent(engine)

    backend = WorkflowBackend(start, LiveOptions(size=FrameSize(width=64, height=48)), 1, {"test": None})
    async with orchestrator() as orch, serving(backend=backend, is_ready=False) as worker:
        body = orch.stream(params={"prompts": fill(1.0)})
        starting = asyncio.create_task(worker.call("POST", "/stream/start", body))
        try:
            await until(lambda: worker.server.worker.streams, "the start to wait")
            assert not (await worker.call("GET", "/stream/status"))[1]["pipeline_ready"]
        finally:
            may_start.set()
        assert (await starting)[0] == 200
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
            await until(lambda: brightness(out) > 220, "the workflow's white")
        await worker.call("POST", "/stream/stop")
        await worker.until_idle()
