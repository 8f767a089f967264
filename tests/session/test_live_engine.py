"""The shared engine: started once, truthful about itself, started anew when it is gone for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from on_loop import on_loop

from comfystream.engine.child import ChildEngine
from comfystream.errors import EngineDied, EngineError
from comfystream.session.live_engine import EngineHost, EngineState


class FakeEngine:
    """Stands for engines that die, which a test cannot wait for."""

    def __init__(self) -> None:
        self.is_dead = self.is_lost = False
        self.is_closed = False

    def object_info(self) -> dict[str, Any]:
        return {}

    def broken_packs(self) -> tuple[Any, ...]:
        if self.is_dead:
            raise EngineDied("the engine process has ended")
        return ()

    def close(self) -> None:
        self.is_closed = True


@on_loop
async def test_it_starts_once_however_many_ask() -> None:
    started: list[FakeEngine] = []

    def start() -> Any:
        started.append(FakeEngine())
        return started[-1]

    host = EngineHost(start)
    assert (await host.state())[0] is EngineState.STOPPED
    await asyncio.gather(*(host.get() for _ in range(5)))
    assert len(started) == 1
    assert (await host.state())[0] is EngineState.READY
    started[0].is_dead = True
    host.suspect()
    assert await host.state() == (EngineState.STARTING, "the engine process has ended")
    assert await host.get() is started[0], "it comes back by itself, with the runs of others"
    started[0].is_lost = True
    assert (await host.state())[0] is EngineState.FAILED
    host.suspect()
    engines = await asyncio.gather(*(host.get() for _ in range(5)))
    assert len(started) == 2
    assert set(engines) == {started[1]}
    assert started[0].is_closed
    await host.close()
    with pytest.raises(EngineError, match="shutting down"):
        await host.get()


@on_loop
async def test_a_failed_start_is_told_and_tried_again() -> None:
    tries = []

    def start() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise EngineDied("no such library")
        return FakeEngine()

    host = EngineHost(start)
    with pytest.raises(EngineDied):
        await host.get()
    assert await host.state() == (EngineState.FAILED, "no such library")
    await host.get()
    assert host.starts == 1
    await host.close()


@on_loop
async def test_the_real_one_tells_its_nodes(shared_engine: ChildEngine) -> None:
    host = EngineHost(lambda: shared_engine)
    catalog = await host.known()
    assert catalog.get("LoadTensor") is not None
