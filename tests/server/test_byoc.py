"""`comfystream byoc`: the engine behind an orchestrator's channels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from app_harness import Lent
from engine_harness import fill, link, node, to_text
from on_loop import on_loop, until
from worker_harness import Listener, Worker, camera, listening, orchestrator, play, serving

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions, FailPolicy
from comfystream.session.live import LiveOptions
from comfystream.session.live_size import FrameSize
from comfystream_server.byoc.backend import WorkflowBackend

PACK = Path(__file__).parent.parent / "engine" / "testing_pack.py"


def slow(number: float, seconds: float) -> dict[str, Any]:
    """A picture of that brightness, once its number is there."""
    number_node = node("TestSource", number=number, seconds=seconds, tag=str(time.monotonic()))
    return {**fill(0.0), "fill": node("TestFill", like=link("in"), number=link("n")), "n": number_node}


@contextlib.asynccontextmanager
async def working(
    engine: ChildEngine,
    workflows: dict[str, Path | None] | None = None,
    policy: FailPolicy = FailPolicy.PASSTHROUGH,
    capacity: int = 1,
) -> AsyncIterator[Worker]:
    files = workflows or {"test": None}
    options = LiveOptions(on_error=policy, size=FrameSize(width=64, height=48))
    backend = WorkflowBackend(lambda: Lent(engine), options, capacity, files)
    async with serving(backend=backend, capabilities=tuple(files), capacity=capacity) as worker:
        yield worker


def brightness(out: Listener) -> float:
    """Of the newest picture."""
    return next((luma for segment in reversed(out.segments) for luma in reversed(play(segment).luma)), -1.0)


@pytest.mark.parametrize("form", [lambda g: g, json.dumps, lambda g: [g], lambda g: [json.dumps(g), "more"]])
@on_loop
async def test_a_stream_brings_its_workflow_in_any_form(shared_engine: ChildEngine, form: Any) -> None:
    async with orchestrator() as orch, working(shared_engine) as worker:
        body = orch.stream(params={"prompts": form(fill(1.0)), "width": 64, "height": 48})
        status, said = await worker.call("POST", "/stream/start", body)
        assert status == 200, said
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
            await until(lambda: brightness(out) > 220, "the workflow's white")


@on_loop
async def test_text_goes_to_the_data_channel_and_pictures_pass_by(shared_engine: ChildEngine) -> None:
    async with orchestrator() as orch, working(shared_engine) as worker:
        body = orch.stream(params={"prompts": to_text("TestBrightness", "value")})
        status, said = await worker.call("POST", "/stream/start", body)
        assert status == 200, said
        async with (
            listening(body["publish_url"]) as out,
            listening(body["data_url"]) as data,
            camera(body["subscribe_url"], value=60, sound=True),
        ):
            await until(lambda: [item for line in data.documents for item in line], "a text")
            seen = len(out.segments)
            await until(lambda: len(out.segments) > seen + 1, "pictures of a graph that puts out none")
            assert 40 < brightness(out) < 80
            assert play(out.segments[-1]).sounds
        assert all(isinstance(item, str) for line in data.documents for item in line)


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ("{not json", "not JSON"),
        ({**fill(1.0), "fill": node("NoSuchNode", like=link("in"))}, "NoSuchNode"),
        ([5], ""),
        ('"text"', "no workflow"),
        ({"nodes": "what"}, ""),
    ],
)
@on_loop
async def test_a_workflow_that_cannot_run_is_refused_with_the_reason(
    shared_engine: ChildEngine, prompts: Any, words: str
) -> None:
    async with orchestrator() as orch, working(shared_engine) as worker:
        status, said = await worker.call("POST", "/stream/start", orch.stream(params={"prompts": prompts}))
        assert (status, said["status"]) == (400, "error")
        assert words in said["message"]
        assert await worker.status() == "IDLE"
        body = orch.stream(params={"prompts": fill(1.0)})
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
            await until(lambda: brightness(out) > 220, "the first workflow")
            status, said = await worker.call("POST", "/stream/params", {"prompts": prompts})
            assert (status, words in said["message"]) == (400, True)
            assert await worker.status() == "OK"
            seen = len(out.segments)
            await until(lambda: len(out.segments) > seen + 1, "more output")
            assert brightness(out) > 220, "the old one goes on"


@pytest.mark.slow
@on_loop
async def test_a_switch_to_a_workflow_that_loads_five_seconds_leaves_no_gap(shared_engine: ChildEngine) -> None:
    async with orchestrator() as orch, working(shared_engine) as worker:
        body = orch.stream(params={"prompts": fill(1.0)})
        await worker.call("POST", "/stream/start", body)
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"]):
            await until(lambda: brightness(out) > 220, "the first workflow")
            seen = len(out.segments)
            status, said = await worker.call("POST", "/stream/params", {"prompts": slow(0.5, 5.0)})
            assert status == 200, said
            await until(lambda: brightness(out) < 200, "the second workflow")
        times = [at for segment in out.segments[seen:] for at in play(segment).times]
        gaps = [later - one for one, later in zip(times, times[1:], strict=False)]
        assert len(times) > 80
        assert sorted(gaps)[-1] < 1.0, "never a held picture; what a loaded machine drops is not counted"
        assert sum(gap <= 0.11 for gap in gaps) > 0.9 * len(gaps)


@on_loop
async def test_while_it_loads_viewers_see_a_card_and_then_the_picture(shared_engine: ChildEngine) -> None:
    async with orchestrator() as orch, working(shared_engine) as worker:
        body = orch.stream(params={"prompts": slow(1.0, 2.5)})
        began = time.monotonic()
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        assert time.monotonic() - began < 2.5, "the answer does not wait for the load"
        async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], value=100):
            await until(lambda: out.segments, "a segment while it loads")
            assert brightness(out) < 80, "the card, not the camera"
            await until(lambda: brightness(out) > 220, "the workflow's white")
        assert max(later - one for one, later in zip(out.times, out.times[1:], strict=False)) < 3


@pytest.mark.parametrize(("policy", "is_shown"), [(FailPolicy.PASSTHROUGH, True), (FailPolicy.HOLD, False)])
@on_loop
async def test_a_workflow_that_fails_is_told_and_the_policy_decides(
    shared_engine: ChildEngine, policy: FailPolicy, is_shown: bool
) -> None:
    async with orchestrator() as orch, working(shared_engine, policy=policy) as worker:
        body = orch.stream(params={"prompts": {**fill(1.0), "fill": node("TestFail", value=link("in"), on="all")}})
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        async with (
            listening(body["publish_url"]) as out,
            listening(body["events_url"]) as heard,
            camera(body["subscribe_url"], value=150),
        ):
            await until(lambda: heard.events("error"), "the error")
            seen = len(out.segments)
            await until(lambda: len(out.segments) > seen + 1, "output")
            assert (brightness(out) > 110) is is_shown
            assert "the test asked for this" in heard.events("error")[0]["message"]
            assert await worker.status() == "OK"
            assert (await worker.call("POST", "/stream/params", {"prompts": fill(1.0)}))[0] == 200
            await until(lambda: brightness(out) > 220, "the good workflow")
        await worker.call("POST", "/stream/stop")
        assert await worker.status() == "IDLE"


@pytest.mark.slow
@on_loop
async def test_an_engine_that_is_killed_comes_back_within_the_stream(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    engine = ChildEngine(EngineOptions(packs=(str(PACK),), threads=1, folders=Folders(base=str(tmp_path))))
    try:
        async with orchestrator() as orch, working(engine) as worker:
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
            assert (await worker.call("POST", "/stream/start", orch.stream("s2")))[0] == 200
    finally:
        engine.close()


@on_loop
async def test_each_capability_has_its_workflow(shared_engine: ChildEngine, tmp_path: Path) -> None:
    files: dict[str, Path | None] = {}
    for name, number in (("black", 0.0), ("white", 1.0)):
        files[name] = tmp_path / f"{name}.json"
        (tmp_path / f"{name}.json").write_text(json.dumps(fill(number)))
    ways = {
        "first": ("/stream/start", {}, False),
        "by-url": ("/capability/white/stream/start", {}, True),
        "by-model": ("/live-video-to-video", {"model_id": "white"}, True),
    }
    async with orchestrator() as orch, working(shared_engine, files, capacity=3) as worker:
        assert (await worker.call("POST", "/capability/green/stream/start", orch.stream("x")))[0] == 400
        for id, (path, more, is_white) in ways.items():
            body = orch.stream(id)
            status, said = await worker.call("POST", path, {**body, **more})
            assert status == 200, said
            async with listening(body["publish_url"]) as out, camera(body["subscribe_url"], value=120):
                await until(
                    lambda out=out, is_white=is_white: (
                        (220 if is_white else -1) < brightness(out) < (256 if is_white else 40) and out.segments
                    ),
                    id,
                )
        assert (await worker.call("GET", "/capability/white/version"))[1]["model_id"] == "white"


@pytest.mark.slow
@on_loop
async def test_a_hundred_edits_leave_nothing_behind(shared_engine: ChildEngine) -> None:
    async with orchestrator() as orch, working(shared_engine) as worker:
        body = orch.stream(params={"prompts": fill(1.0)})
        await worker.call("POST", "/stream/start", body)
        async with camera(body["subscribe_url"]):
            for number in range(20):
                await worker.call("POST", "/stream/params", {"prompts": fill(number / 100)})
            tasks = len(asyncio.all_tasks())
            for number in range(80):
                status, said = await worker.call("POST", "/stream/params", {"prompts": fill(number / 100)})
                assert status == 200, said
            assert len(asyncio.all_tasks()) <= tasks + 3
