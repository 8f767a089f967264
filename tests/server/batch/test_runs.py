"""Runs of a worker: deadlines, callers that go away, the queue, a live stream beside, an engine that dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
from batch_harness import Batches, Reply, batches, coded, lasting, png, save
from engine_harness import fill, link, node
from on_loop import on_loop, until
from worker_harness import camera, listening, orchestrator, play

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions

PACK = Path(__file__).parents[2] / "engine" / "testing_pack"


async def until_free(worker: Batches) -> None:
    await until(lambda: not worker.batch.runs.is_busy and not worker.batch.runs.waiting, "an end of the run")


def folders() -> set[str]:
    import tempfile

    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("comfystream-once-")}


@on_loop
async def test_a_deadline_names_the_node_and_ends_the_run(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "long", lasting(0.3, steps=100))
    async with batches(shared_engine, tmp_path) as worker:
        reply = await worker.post("/long", {"timeout_seconds": 0.8})
        assert (reply.status, reply.error["code"]) == (504, "deadline")
        assert reply.error["node"].startswith("n")
        assert f"node {reply.error['node']} ran" in reply.json["message"]
        await asyncio.wait_for(until_free(worker), 10)
        by_header = await worker.post("/long", headers={"Timeout-Seconds": "0.5"})
        assert by_header.status == 504
        assert (await worker.post("/edges", {"image": coded(png())})).status == 200


@on_loop
async def test_a_caller_that_goes_away_stops_the_run(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "long", lasting(0.2, steps=200))
    before = folders()
    async with batches(shared_engine, tmp_path) as worker:
        for more in ({}, {"stream": True}):
            runs = worker.batch.runs
            caller = asyncio.create_task(worker.post("/long", more))
            await until(lambda runs=runs: runs.is_busy, "the run")
            caller.cancel()
            await asyncio.wait_for(until_free(worker), 10)
            assert (await worker.post("/edges", {"image": coded(png())})).status == 200
        await until(lambda: folders() <= before, "an end of their folders")


@on_loop
async def test_a_caller_that_stops_reading_its_events_goes_away(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "long", lasting(0.1, steps=300))
    async with batches(shared_engine, tmp_path) as worker:
        async with worker.session.post(worker.url + "/long", json={"stream": True}) as response:
            assert b"accepted" in await response.content.readline()
        await asyncio.wait_for(until_free(worker), 10)


@on_loop
async def test_those_that_wait_run_in_turn_and_too_many_are_turned_away(
    shared_engine: ChildEngine, tmp_path: Path
) -> None:
    save(tmp_path, "long", lasting(0.4, steps=3, tag="queue"))
    async with batches(shared_engine, tmp_path, waiting=1) as worker:
        runs = worker.batch.runs
        first = asyncio.create_task(worker.post("/long", {"values": {"n0.number": 0.1}}))
        await until(lambda: runs.is_busy, "the first run")
        second = asyncio.create_task(worker.post("/long", {"stream": True, "values": {"n0.number": 0.2}}))
        await until(lambda: runs.waiting == 1, "the second in the queue")
        third = await worker.post("/long")
        assert (third.status, third.error["code"]) == (503, "queue_full")
        assert int(third.headers["Retry-After"]) > 0
        assert ((await first).status, (await second).status) == (200, 200)
        assert (await second).events[0] == {"type": "accepted", "ahead": 1}
        last = asyncio.create_task(worker.post("/long", {"values": {"n0.number": 0.3}}))
        await until(lambda: runs.is_busy, "another run")
        late = await worker.post("/long", {"timeout_seconds": 0.2})
        assert (late.status, "in the queue" in late.json["message"]) == (504, True)
        assert (await last).status == 200
        await until_free(worker)


@on_loop
async def test_a_live_stream_goes_on_beside_runs(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "long", lasting(0.2, steps=5, tag="beside"))
    async with orchestrator() as orch, batches(shared_engine, tmp_path) as worker:
        body = orch.stream(params={"prompts": fill(1.0)})
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
            await until(lambda: out.segments and max(play(out.segments[-1]).luma, default=0) > 220, "the stream")
            seen = len(out.segments)
            replies = await asyncio.gather(
                *(worker.post("/long", {"values": {"n0.number": number / 10}}) for number in range(3)),
                worker.post("/edges", {"image": coded(png())}),
            )
            assert [reply.status for reply in replies] == [200] * 4
            await until(lambda: len(out.segments) > seen + 1, "the stream after the runs")
            assert all(luma > 220 for luma in play(out.segments[-1]).luma)
        assert (await worker.call("POST", "/stream/stop"))[0] == 200
        assert (await worker.post("/edges", {"image": coded(png())})).status == 200


@on_loop
async def test_an_engine_that_dies_is_told_with_the_node_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    engine = ChildEngine(EngineOptions(packs=(str(PACK),), threads=1, folders=Folders(base=str(tmp_path))))
    graph = {
        "a": node("EmptyImage", width=16, height=16, batch_size=1, color=0),
        "die": node("TestDie", value=link("a"), how="kill", on=1),
        "out": node("PreviewImage", images=link("die")),
    }
    save(tmp_path, "deadly", graph)
    save(tmp_path, "long", lasting(0.2, steps=100))
    try:
        async with batches(engine, tmp_path) as worker:
            reply = await worker.post("/deadly")
            assert (reply.status, reply.error["code"]) == (503, "engine_died")
            assert "node die" in reply.json["message"]
            assert (await worker.post("/edges", {"image": coded(png())})).status == 200
            async with worker.session.post(worker.url + "/long", json={"stream": True}) as response:
                while b"n1" not in await response.content.readline():
                    pass  # until its nodes run
                os.kill(engine.pid, signal.SIGKILL)
                rest = Reply(response.status, {}, await response.read())
            assert rest.events[-1]["type"] == "error"
            assert (await worker.post("/edges", {"image": coded(png())})).status == 200
    finally:
        engine.close()


@on_loop
async def test_a_worker_that_ends_does_not_wait_for_a_run(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "long", lasting(0.2, steps=100))
    async with batches(shared_engine, tmp_path) as worker:
        running = asyncio.create_task(worker.post("/long"))
        await until(lambda: worker.batch.runs.is_busy, "the run")
    failed = (await asyncio.gather(running, return_exceptions=True))[0]
    assert isinstance(failed, aiohttp.ClientError | OSError) or getattr(failed, "status", 0) >= 500
    async with batches(shared_engine, tmp_path) as worker:
        assert (await worker.post("/edges", {"image": coded(png())})).status == 200
