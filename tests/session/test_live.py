"""A live session on the real engine process: edits while frames flow, failures, the engine's death."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from engine_harness import fill, link, node, video
from live_harness import camera, live
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.engine.events import EngineLost, EngineRestarted, NodeFailed
from comfystream.engine.protocol import EngineOptions, FailPolicy
from comfystream.errors import ComfyStreamError, EngineDied, EngineError, WorkflowError
from comfystream.session.live_edits import StaleRevision
from comfystream.session.live_state import RevisionChanged, SessionState, StateChanged
from comfystream.workflow.edits import Patch
from comfystream.workflow.model import Workflow
from comfystream.workflow.read import parse_workflow


def graph(number: float, **more: Any) -> Workflow:
    return parse_workflow(fill(number, **more))


def set_number(number: Any) -> list[Patch]:
    return [Patch(node="fill", input="number", value=number)]


def broken(at: int) -> Workflow:
    """Black, and a node that raises in that call."""
    bad = node("TestFail", value=link("in"), on=str(at))
    return graph(0.0, fill=node("TestFill", like=link("bad"), number=0.0), bad=bad)


FIRST_CALL = 2  # of a node of a live revision: the first was in the rehearsal
FAILS = {"fill": node("TestFail", value=link("in"), on="all")}


@on_loop
async def test_without_a_workflow_frames_come_back_and_the_engine_is_not_touched() -> None:
    async with live(None) as watched, camera(watched.session, 77):
        await until(lambda: len(watched.pictures) > 3)
        assert abs(watched.shown - 77) <= 1
        assert watched.session.state is SessionState.IDLE


@on_loop
async def test_a_workflow_and_patches_take_effect_on_the_frame_that_the_reply_names(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        assert (await session.set_workflow(graph(0.0))).revision == 1
        change = await session.patch(set_number(1.0), who="tester")
        assert change.revision == 2
        assert change.first_frame is not None
        await until(lambda: watched.pictures and watched.pictures[-1].id >= change.first_frame)
        by_id = {frame.id: frame for frame in watched.pictures}
        before = [grey_of(frame) for id, frame in by_id.items() if id < change.first_frame and id > 0]
        after = [grey_of(frame) for id, frame in by_id.items() if id >= change.first_frame]
        assert 255 not in before[-3:]
        assert set(after) == {255}
        assert [(e.revision, e.who) for e in watched.events_of(RevisionChanged)] == [(1, ""), (2, "tester")]


def grey_of(frame: Any) -> int:
    from engine_harness import grey

    return grey(frame)


@on_loop
async def test_undo_and_redo(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(graph(0.0))
        await session.patch(set_number(1.0))
        assert (await session.undo()).revision == 1
        await until(lambda: watched.shown == 0)
        assert (await session.redo()).revision == 2
        await until(lambda: watched.shown == 255)
        with pytest.raises(WorkflowError, match="nothing to redo"):
            await session.redo()
        await session.undo()
        assert (await session.patch(set_number(0.5))).revision == 3


@on_loop
async def test_a_stale_edit_is_refused_and_names_what_is_in_force(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched:
        session = watched.session
        await session.set_workflow(graph(0.0))
        await session.patch(set_number(0.5), base=1)
        with pytest.raises(StaleRevision, match="revision 1, but 2"):
            await session.patch(set_number(0.7), base=1)
        with pytest.raises(StaleRevision):
            await session.set_workflow(graph(0.1), base=1)
        assert session.revision == 2


@on_loop
async def test_patches_that_queue_up_become_one_revision(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(graph(0.0))
        changes = await asyncio.gather(*(session.patch(set_number(i / 50)) for i in range(51)))
        assert changes[-1].revision < 10
        await until(lambda: watched.shown == 255)


@on_loop
async def test_a_bad_patch_among_queued_ones_fails_alone(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(graph(0.0))
        bad = [Patch(node="nobody", input="number", value=1)]
        good, failed, last = await asyncio.gather(
            session.patch(set_number(0.5)), session.patch(bad), session.patch(set_number(1.0)), return_exceptions=True
        )
        assert isinstance(failed, WorkflowError)
        assert not isinstance(good, Exception)
        assert not isinstance(last, Exception)
        await until(lambda: watched.shown == 255)


@on_loop
async def test_an_edit_that_does_not_run_leaves_the_running_one(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(graph(1.0))
        for broken in (graph(0.0, fill=node("NoSuchNode")), graph(0.0, **FAILS), graph("much")):
            with pytest.raises(ComfyStreamError):
                await session.set_workflow(broken)
        assert session.revision == 1
        assert session.state is SessionState.RUNNING
        seen = len(watched.pictures)
        await until(lambda: len(watched.pictures) > seen + 2)
        assert watched.shown == 255


@on_loop
async def test_a_first_workflow_that_does_not_run_leaves_the_echo(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session, 60):
        with pytest.raises(WorkflowError):
            await watched.session.set_workflow(graph(0.0, fill=node("NoSuchNode")))
        assert watched.session.state is SessionState.IDLE
        seen = len(watched.pictures)
        await until(lambda: len(watched.pictures) > seen)
        assert abs(watched.shown - 60) <= 1


@on_loop
async def test_edits_without_frames_answer_at_once(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched:
        change = await watched.session.set_workflow(graph(0.0))
        assert (change.revision, change.first_frame) == (1, None)
        change = await watched.session.patch(set_number(1.0))
        assert (change.revision, change.first_frame) == (2, None)
        async with camera(watched.session):
            await until(lambda: watched.shown == 255)


@on_loop
@pytest.mark.parametrize("edits", [1, 2])
async def test_a_revision_that_fails_on_its_first_frame_is_taken_back(shared_engine: ChildEngine, edits: int) -> None:
    """Its caller was answered long before: no frames came then."""
    async with live(shared_engine) as watched:
        session = watched.session
        await session.set_workflow(graph(0.0))
        if edits == 2:
            await session.patch(set_number(1.0))
        before = session.workflow
        await session.set_workflow(broken(at=FIRST_CALL))
        assert session.revision == edits + 1
        async with camera(session):
            await until(lambda: session.revision == edits, "the revision before")
            await until(lambda: bool(watched.pictures) and watched.shown == (0, 255)[edits - 1])
        assert session.workflow == before
        assert watched.events_of(RevisionChanged)[-1].revision == edits
        change = await session.patch(set_number(0.5))
        assert change.revision == edits + 2, "the number of what failed is not given again"


@on_loop
async def test_pause_drops_and_resume_goes_on(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(graph(1.0))
        await until(lambda: watched.shown == 255)
        await session.pause()
        seen = len(watched.pictures)
        assert (await session.patch(set_number(0.0))).first_frame is None
        await until(lambda: session.counts().dropped.get("paused", 0) > 3)
        assert len(watched.pictures) <= seen + 2
        await session.resume()
        await until(lambda: watched.shown == 0)
        states = [event.state for event in watched.events_of(StateChanged)]
        assert states == [SessionState.PREPARING, SessionState.RUNNING, SessionState.PAUSED, SessionState.RUNNING]


@pytest.mark.parametrize(("policy", "is_raw_seen"), [(FailPolicy.HOLD, False), (FailPolicy.PASSTHROUGH, True)])
@on_loop
async def test_after_a_failure_the_raw_picture_is_for_who_asked_for_it(
    shared_engine: ChildEngine, policy: FailPolicy, is_raw_seen: bool
) -> None:
    async with live(shared_engine, on_error=FailPolicy.STOP) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(broken(at=6))
        await until(lambda: session.state is SessionState.FAILED)
        await session.set_fail_policy(policy)
        before = len(watched.pictures)
        source = node("TestSource", number=1.0, seconds=0.5)
        await session.set_workflow(graph(1.0, fill=node("TestFill", like=link("in"), number=link("s")), s=source))
        await until(lambda: watched.shown == 255)
        raw = [frame for frame in watched.pictures[before:] if abs(grey_of(frame) - 128) <= 1]
        assert bool(raw) is is_raw_seen
        assert SessionState.PREPARING in [event.state for event in watched.events_of(StateChanged)][2:]


@on_loop
async def test_the_fail_policy_changes_while_it_runs(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session, 60):
        session = watched.session
        await session.set_fail_policy(FailPolicy.PASSTHROUGH)
        await session.set_workflow(graph(1.0))
        await until(lambda: watched.shown == 255)
        await session.set_workflow(graph(1.0, fill=node("TestFail", value=link("in"), on=5)))
        (failed, *_) = await until(lambda: watched.events_of(NodeFailed), "the failure")
        assert (failed.node_id, failed.class_type, failed.revision) == ("fill", "TestFail", 2)


@on_loop
async def test_the_engine_killed_comes_back_with_the_viewer_still_there(engine_options: EngineOptions) -> None:
    engine = ChildEngine(engine_options)
    try:
        async with live(engine) as watched, camera(watched.session):
            session = watched.session
            await session.set_workflow(graph(0.0))
            await session.set_workflow(graph(1.0))
            await until(lambda: watched.shown == 255)
            seen = len(watched.pictures)
            await until(lambda: len(watched.pictures) > seen + 1)  # else it might have died because of this revision
            os.kill(engine.pid, signal.SIGKILL)
            (event,) = await until(lambda: watched.events_of(EngineRestarted), "the restart")
            assert event.revision == 2
            seen = len(watched.pictures)
            await until(lambda: len(watched.pictures) > seen + 3)
            assert watched.shown == 255
            assert (await session.patch(set_number(0.0))).revision == 3
            await until(lambda: watched.shown == 0)
            os.kill(engine.pid, signal.SIGKILL)
            await until(lambda: len(watched.events_of(EngineLost)) == 2)
            assert (await session.patch(set_number(1.0))).revision == 4, "what is asked for meanwhile waits"
            await until(lambda: watched.shown == 255)
            assert len(watched.events_of(EngineRestarted)) == 2
    finally:
        engine.close()


@on_loop
async def test_a_slow_reader_loses_only_its_own() -> None:
    async with live(None) as watched:
        slow = watched.session.subscribe()
        for number in range(10):
            watched.session.submit(video(number))
            await asyncio.sleep(0)
        await until(lambda: len(watched.pictures) == 10)
        assert slow.dropped == 8
        assert [(await anext(slow)).id for _ in range(2)] == [8, 9]


@on_loop
async def test_stats_count_what_came_and_went(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched:
        async with camera(watched.session):
            await watched.session.set_workflow(graph(1.0))
            await until(lambda: len(watched.pictures) > 10)
        stats = await watched.session.stats()
        assert stats.frames_in >= stats.frames_out > 0
        assert stats.revision == 1
        assert stats.engine is not None
        assert stats.latency_ms > 0


@on_loop
async def test_closing_answers_what_waits() -> None:
    async with live(None) as watched:
        waits = asyncio.create_task(watched.session.patch(set_number(1)))
        await asyncio.sleep(0)
        await watched.session.close()
        with pytest.raises((EngineError, EngineDied, AssertionError)):
            await waits
        with pytest.raises(EngineError, match="has ended"):
            await watched.session.pause()
