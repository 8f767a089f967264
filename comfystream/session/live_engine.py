"""The engine that all live sessions share: started once, beside the server, and started anew when it is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from comfystream.catalog.from_object_info import ObjectInfoCatalog
from comfystream.engine.events import PackBroken
from comfystream.engine.protocol import Engine
from comfystream.errors import EngineDied, EngineError
from comfystream.session.loop_bridge import call

__all__ = ["EngineHost", "EngineState"]

_log = logging.getLogger(__name__)
PING_S = 2.0


class EngineState(StrEnum):
    """How the engine is."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"  # it is there and did not answer within two seconds
    FAILED = "failed"


class EngineHost:
    """Starts the engine when it is first asked for, and again when the one that was there has died for good.

    Args:
        start: makes an engine; may take long, is called on a thread.
    """

    def __init__(self, start: Callable[[], Engine]) -> None:
        self._start = start
        self._starting: asyncio.Task[Engine] | None = None
        self._engine: Engine | None = None
        self._closed = False
        self.catalog: ObjectInfoCatalog | None = None
        self.object_info: Mapping[str, Any] = {}
        self.broken_packs: tuple[PackBroken, ...] = ()
        self.starts = 0
        self._is_suspect = False
        self._deciding = asyncio.Lock()
        self._pinging: asyncio.Task[object] | None = None

    def begin(self) -> None:
        """Start it in the background."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._load(), name="engine-start")
            self._starting.add_done_callback(self._look_at)

    async def get(self) -> Engine:
        """The engine, waiting until it is there.

        Raises:
            ComfyStreamError: it cannot be started.
        """
        if self._closed:
            raise EngineError("the server is shutting down", code="closed")
        async with self._deciding:
            if await self._is_lost():
                await self._drop()
            self._is_suspect = False
        self.begin()
        assert self._starting is not None
        return await asyncio.shield(self._starting)

    async def _is_lost(self) -> bool:
        state = (await self.state())[0] if self._is_suspect else self._start_state()
        return state is EngineState.FAILED

    async def known(self) -> ObjectInfoCatalog:
        """The node classes, waiting until the engine is there."""
        await self.get()
        assert self.catalog is not None
        return self.catalog

    async def _load(self) -> Engine:
        engine = await call(self._start)
        self._engine = engine
        self.starts += 1
        self.object_info = await call(engine.object_info)
        self.catalog = ObjectInfoCatalog(self.object_info)
        self.broken_packs = await call(engine.broken_packs)
        _log.info("the engine is ready: %d node classes", len(self.object_info))
        return engine

    @property
    def engine_pid(self) -> int | None:
        """Process of the engine that runs; None while there is none, and for one that lives in this process."""
        pid: int | None = getattr(self._engine, "pid", None)
        return pid

    @property
    def is_starting(self) -> bool:
        """Whether it is being loaded, which may take long."""
        return self._start_state() is EngineState.STARTING

    def suspect(self) -> None:
        """A run has failed, perhaps because the engine does not come back: ask it before the next one starts."""
        self._is_suspect = True

    async def _drop(self) -> None:
        engine, self._engine, self._starting = self._engine, None, None
        if engine is not None:
            await call(engine.close)

    def _start_state(self) -> EngineState:
        if self._starting is None:
            return EngineState.STOPPED
        if not self._starting.done():
            return EngineState.STARTING
        return EngineState.READY if self._starting.exception() is None else EngineState.FAILED

    async def state(self) -> tuple[EngineState, str]:
        """How it is, by asking it, and why if it is not well."""
        state = self._start_state()
        if self._starting is None or state is EngineState.STARTING:
            return state, ""
        if (error := self._starting.exception()) is not None:
            return state, str(error)
        return await self._ping(self._starting.result())

    async def _ping(self, engine: Engine) -> tuple[EngineState, str]:
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(call(engine.broken_packs), name="engine-ping")
            self._pinging.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(PING_S):
                await asyncio.shield(self._pinging)
        except TimeoutError:
            return EngineState.BUSY, f"no answer within {PING_S:.0f} s"
        except EngineDied as error:
            return (EngineState.FAILED if engine.is_lost else EngineState.STARTING), str(error)
        return EngineState.READY, ""

    def refuse(self) -> None:
        """Start nothing any more. Idempotent."""
        self._closed = True

    async def close(self) -> None:
        """End it. Idempotent."""
        self.refuse()
        if self._starting is not None and not self._starting.done():
            await asyncio.wait([self._starting])
        await self._drop()

    def _look_at(self, task: asyncio.Task[Engine]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._closed:
            _log.error("the engine did not start: %s", error)
