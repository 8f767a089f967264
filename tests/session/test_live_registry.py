"""How many sessions there may be, and when one ends by itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from live_harness import FakeClock
from on_loop import on_loop

from comfystream.engine.protocol import Engine, RunnerStats
from comfystream.errors import BusyError
from comfystream.frames import Lane
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_figures import LiveStats
from comfystream.session.live_fps import FpsStats
from comfystream.session.live_registry import EngineFull, NoSuchSession, Sessions
from comfystream.session.live_room import starved_fps
from comfystream.session.live_state import SessionState


def _never() -> Engine:
    raise AssertionError("the engine was touched")


@contextlib.asynccontextmanager
async def registry(most: int = 2, **options: float) -> AsyncIterator[tuple[Sessions, FakeClock]]:
    clock = FakeClock()
    sessions = Sessions(EngineHost(_never), most, clock, **options)
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


def _stats(tick_ms: dict[Lane, tuple[float, ...]], fps_in: float = 30, state: str = "running") -> LiveStats:
    engine = RunnerStats({}, {}, {}, 0, tick_ms, 0.0, ())
    came = FpsStats(fps=fps_in)
    return LiveStats(SessionState(state), 1, 0, 0, came, FpsStats(), {}, 1, 0.0, engine)


@pytest.mark.parametrize(
    ("stats", "fps"),
    [
        (_stats({Lane.VIDEO: (10.0,) * 50 + (800.0,) * 8}), 1.25),
        (_stats({Lane.VIDEO: (800.0,) * 50 + (10.0,) * 8}), None),
        (_stats({Lane.VIDEO: (800.0,) * 3}), None),
        (_stats({Lane.VIDEO: (800.0,) * 8}, fps_in=0), None),
        (_stats({Lane.VIDEO: (800.0,) * 8}, state="paused"), None),
        (_stats({Lane.CLOCK: (2000.0,) * 8}, fps_in=0), 0.5),
        (_stats({}), None),
    ],
)
def test_what_counts_as_too_few_pictures(stats: LiveStats, fps: float | None) -> None:
    assert starved_fps(stats, 2.0) == fps


@on_loop
async def test_an_engine_that_carries_no_more_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registry(8, least_fps=2.0) as (sessions, clock):
        first = await sessions.create()
        first.attach()
        slow = _stats({Lane.VIDEO: (800.0,) * 8})

        async def stats(_: LiveSession) -> LiveStats:
            return slow

        monkeypatch.setattr(LiveSession, "stats", stats)
        with pytest.raises(EngineFull, match=r"1\.2 pictures a second") as caught:
            await sessions.create()
        assert caught.value.retry_after_s > 0
        slow = _stats({Lane.VIDEO: (10.0,) * 8})
        second = await sessions.create()
        second.attach()
        slow = _stats({Lane.VIDEO: (800.0,) * 8})
        first.detach()
        clock.turn_s(1)
        await sessions.create()
        assert first.state is SessionState.ENDED, "one that nobody watches makes room"
