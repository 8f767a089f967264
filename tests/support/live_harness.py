"""A live session with a camera and a viewer, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from engine_harness import grey, video

from comfystream.engine.protocol import Engine
from comfystream.frames import Frame, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_options import LiveOptions


class FakeClock:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def now_ns(self) -> int:
        return self.now

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self.now = max(self.now, deadline_ns)

    def turn_s(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


class Watched:
    """A session, what it put out and what it said."""

    def __init__(self, session: LiveSession) -> None:
        self.session = session
        self.frames: list[Frame] = []
        self.events: list[Any] = []
        self._tasks = [
            asyncio.create_task(self._watch(session.subscribe(), self.frames)),
            asyncio.create_task(self._watch(session.events(), self.events)),
        ]

    async def _watch(self, reader: Any, into: list[Any]) -> None:
        async for item in reader:
            into.append(item)

    @property
    def pictures(self) -> list[VideoFrame]:
        return [frame for frame in self.frames if isinstance(frame, VideoFrame)]

    @property
    def shown(self) -> int | None:
        return grey(self.pictures[-1]) if self.pictures else None

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def close(self) -> None:
        await self.session.close()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def live(engine: Engine | None, **options: Any) -> AsyncIterator[Watched]:
    """A session of that engine; None stands for an engine that must not be needed."""

    def start() -> Engine:
        assert engine is not None, "the engine was touched"
        return engine

    watched = Watched(LiveSession("test", EngineHost(start), LiveOptions(**options)))
    try:
        yield watched
    finally:
        await watched.close()


@contextlib.asynccontextmanager
async def camera(session: LiveSession, value: int = 128, every_s: float = 0.01) -> AsyncIterator[None]:
    """Submits pictures until the block ends."""

    async def shoot() -> None:
        for number in range(1_000_000):
            session.submit(video(number, value))
            await asyncio.sleep(every_s)

    task = asyncio.create_task(shoot())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
