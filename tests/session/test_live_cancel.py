"""An edit whose engines take very long is withdrawn: by `cancel`, and by a newer edit that leaves nothing of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_harness import fill, link, node
from live_harness import Watched, camera, live
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.engine.events import Progress
from comfystream.engine.protocol import Cancelled
from comfystream.errors import WorkflowError
from comfystream.session import live_orders
from comfystream.session.live_state import PrepareFailed, SessionState
from comfystream.workflow.edits import Patch
from comfystream.workflow.model import Workflow
from comfystream.workflow.read import parse_workflow


def graph(number: float = 1.0, **more: Any) -> Workflow:
    return parse_workflow(fill(number, **more))


def building(engines: int = 3) -> Workflow:
    builder = node("TestBuilds", engines=engines, number=0.0)
    return graph(fill=node("TestFill", like=link("in"), number=link("builder")), builder=builder)


async def is_building(watched: Watched) -> None:
    def told() -> bool:
        return any(one.message.startswith("building engine 1/3 (fake)") for one in watched.events_of(Progress))

    await until(told)


async def flows(watched: Watched, shown: int) -> None:
    seen = len(watched.pictures)
    await until(lambda: len(watched.pictures) > seen + 3)
    assert watched.shown == shown


@on_loop
async def test_cancel_ends_the_build_and_the_stream_goes_on(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(graph())
        wrong = asyncio.create_task(session.set_workflow(building()))
        await is_building(watched)
        await flows(watched, 255)
        assert session.progress is not None
        assert session.progress.message.startswith("building engine 1/3")
        assert (await session.cancel()).revision == 1
        with pytest.raises(Cancelled, match="it was cancelled while it was being prepared"):
            await wrong
        assert session.progress is None
        await until(lambda: watched.events_of(PrepareFailed))
        [failed] = watched.events_of(PrepareFailed)
        assert failed.revision == 2
        assert "cancelled" in failed.reason
        await flows(watched, 255)
        assert (session.revision, session.state) == (1, SessionState.RUNNING)
        with pytest.raises(WorkflowError, match="nothing is being prepared"):
            await session.cancel()
        assert (await session.set_workflow(graph(0.0))).revision == 2
        await until(lambda: watched.shown == 0)


@on_loop
async def test_a_first_workflow_that_is_cancelled_leaves_the_echo(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session, 77):
        wrong = asyncio.create_task(watched.session.set_workflow(building()))
        await is_building(watched)
        await watched.session.cancel()
        with pytest.raises(Cancelled):
            await wrong
        assert watched.session.state is SessionState.IDLE
        await until(lambda: watched.shown is not None and abs(watched.shown - 77) <= 1)


@on_loop
async def test_a_newer_workflow_ends_the_build_of_the_older_ones(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(graph())
        wrong = asyncio.create_task(session.set_workflow(building()))
        await is_building(watched)
        wrong_too = asyncio.create_task(session.set_workflow(building()))
        await asyncio.sleep(0)  # so that it is asked for before the right one
        right = await session.set_workflow(graph(0.0))
        assert right.revision == 2
        for one in (wrong, wrong_too):
            with pytest.raises(Cancelled):
                await one
        await until(lambda: watched.shown == 0)


@on_loop
async def test_the_last_of_several_workflows_is_finished_however_long_it_takes(
    shared_engine: ChildEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_orders, "PATIENCE_S", 0.1)
    slow = node("TestSource", number=0.0, seconds=0.5, tag="the last one")
    async with live(shared_engine) as watched, camera(watched.session):
        orders = [graph(), graph(0.5), graph(fill=node("TestFill", like=link("in"), number=link("slow")), slow=slow)]
        changes = await asyncio.gather(*map(watched.session.set_workflow, orders))
        assert changes[-1].revision == 3
        await until(lambda: watched.shown == 0)


@on_loop
async def test_a_newer_value_ends_the_build_of_the_older_one(shared_engine: ChildEngine) -> None:
    def engines(count: int) -> list[Patch]:
        return [Patch(node="builder", input="engines", value=count)]

    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(building(0))
        wrong = asyncio.create_task(session.patch(engines(3)))
        await is_building(watched)
        number = asyncio.create_task(session.patch([Patch(node="builder", input="number", value=1.0)]))
        await session.patch(engines(0))
        with pytest.raises(Cancelled):
            await wrong
        await number
        await until(lambda: watched.shown == 255)
