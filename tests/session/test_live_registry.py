"""How many sessions there may be, and when one ends by itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from live_harness import FakeClock
from on_loop import on_loop

from comfystream.engine.protocol import Engine
from comfystream.errors import BusyError
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_registry import NoSuchSession, Sessions
from comfystream.session.live_state import SessionState


def _never() -> Engine:
    raise AssertionError("the engine was touched")


@contextlib.asynccontextmanager
async def registry(most: int = 2) -> AsyncIterator[tuple[Sessions, FakeClock]]:
    clock = FakeClock()
    sessions = Sessions(EngineHost(_never), most, clock)
    try:
        yield sessions, clock
    finally:
        await sessions.close()


@on_loop
async def test_one_too_many_is_refused_with_a_time_to_come_back() -> None:
    async with registry() as (sessions, clock):
        for _ in range(2):
            (await sessions.create()).attach()
        with pytest.raises(BusyError, match="all 2 sessions"):
            await sessions.create()
        next(iter(sessions)).detach()
        clock.turn_s(10)
        assert sessions.retry_after_s() == 20


@on_loop
async def test_one_that_its_viewers_left_makes_room() -> None:
    async with registry() as (sessions, clock):
        first, second = await sessions.create(), await sessions.create()
        first.attach(), second.attach()
        first.detach()
        clock.turn_s(1)
        third = await sessions.create()
        assert first.state is SessionState.ENDED
        assert {session.id for session in sessions} == {second.id, third.id}


@on_loop
async def test_a_viewer_may_come_back_for_thirty_seconds() -> None:
    async with registry() as (sessions, clock):
        session = await sessions.create()
        session.attach()
        clock.turn_s(1000)
        await sessions.end_abandoned()
        session.detach()
        clock.turn_s(29)
        await sessions.end_abandoned()
        assert sessions.get(session.id) is session
        session.attach()
        session.detach()
        clock.turn_s(31)
        await sessions.end_abandoned()
        with pytest.raises(NoSuchSession):
            sessions.get(session.id)
        assert session.state is SessionState.ENDED


@on_loop
async def test_ending_one_leaves_the_others() -> None:
    async with registry() as (sessions, _):
        one, other = await sessions.create(), await sessions.create()
        await sessions.end(one.id)
        assert (one.state, other.state) == (SessionState.ENDED, SessionState.IDLE)
