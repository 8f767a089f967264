"""What a worker's stream shows while its session has no workflow that runs."""

from __future__ import annotations

import asyncio

import pytest
from engine_harness import fill, link, node
from live_harness import camera, live
from on_loop import on_loop, until

from comfystream.byoc.backend import Outlet
from comfystream.byoc.messages import StreamParams
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import FailPolicy
from comfystream.errors import ComfyStreamError
from comfystream.session.live import LiveSession
from comfystream.session.live_state import SessionState
from comfystream.workflow.read import parse_workflow
from comfystream_server.byoc.session_pipe import SessionPipe


def pipe_of(session: LiveSession) -> SessionPipe:
    outlet = Outlet(lambda item: None, lambda event, queue: None)
    return SessionPipe(session, None, {}, outlet, session.close)


def slow(number: float) -> dict[str, object]:
    fill_ = node("TestFill", like=link("in"), number=link("s"))
    return fill(number, fill=fill_, s=node("TestSource", number=number, seconds=0.5))


@on_loop
async def test_the_card_stays_until_the_workflow_runs_again(shared_engine: ChildEngine) -> None:
    failing = fill(0.0, bad=node("TestFail", value=link("in"), on="6"))
    failing["fill"] = node("TestFill", like=link("bad"), number=0.0)
    async with live(shared_engine, on_error=FailPolicy.STOP) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(parse_workflow(failing))
        await until(lambda: session.state is SessionState.FAILED)
        await session.set_fail_policy(FailPolicy.HOLD)
        pipe = pipe_of(session)
        words, states = [pipe.loading()], [pipe.report().state]
        again = asyncio.create_task(session.set_workflow(parse_workflow(slow(1.0))))
        await until(lambda: session.state is SessionState.PREPARING)
        words.append(pipe.loading())
        states.append(pipe.report().state)
        await again
        assert [loading and loading.words for loading in words] == ["The engine starts again"] * 2
        assert pipe.loading() is None
        assert [*states, pipe.report().state] == ["ERROR", "DEGRADED_INFERENCE", "ONLINE"]
        await pipe.close()


@on_loop
async def test_a_first_workflow_is_loaded_behind_the_input(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        pipe = pipe_of(session)
        first = asyncio.create_task(session.set_workflow(parse_workflow(slow(1.0))))
        await until(lambda: session.state is SessionState.PREPARING)
        assert pipe.loading() is None
        await first
        await pipe.close()


@on_loop
async def test_a_refused_workflow_leaves_the_size_as_it_was(shared_engine: ChildEngine) -> None:
    async with live(shared_engine) as watched, camera(watched.session):
        session = watched.session
        await session.set_workflow(parse_workflow(fill(1.0)))
        pipe, before = pipe_of(session), session.options.size
        unfit = {"in": node("LoadTensor")}
        with pytest.raises(ComfyStreamError, match="missing output"):
            await pipe.update(StreamParams(width=96, height=64, prompts=unfit))
        assert session.options.size == before
        await pipe.update(StreamParams(width=96, height=64, prompts=fill(2.0)))
        assert (session.options.size.width, session.options.size.height) == (96, 64)
        await pipe.close()
