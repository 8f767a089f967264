"""Runs of a worker: one at a time, a few that wait, each with a deadline, stopped when nobody wants it any more."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from comfystream.engine.events import Event, Progress
from comfystream.engine.once_job import OnceDone, OnceJob
from comfystream.engine.protocol import Engine
from comfystream.errors import BusyError, ComfyStreamError
from comfystream.session.live_engine import EngineHost
from comfystream.session.loop_bridge import ToLoop, call, result

from .faults import TOO_LATE, Refused

__all__ = ["Runs", "Watch"]

_log = logging.getLogger(__name__)
MOST_EVENTS = 256
END_S = 5.0


@dataclass(slots=True)
class Watch:
    """What is known of a run while it goes on.

    Attributes:
        tell: called on the event loop with each step.
        node: id of the node that runs, or ran last.
        is_running: whether it has begun.
        ahead: how many were ahead of it when it came.
    """

    tell: Callable[[Progress], None] = lambda progress: None
    node: str = ""
    is_running: bool = False
    ahead: int = 0

    def heard(self, event: Event) -> None:
        """On the event loop."""
        if isinstance(event, Progress):
            self.is_running = True
            self.node = event.node_id or self.node
            self.tell(event)


@dataclass(slots=True)
class _Run:
    """A run that the engine was given."""

    id: int
    starting: asyncio.Task[tuple[Engine, Future[OnceDone]]]
    is_over: bool = field(default=False)


class Runs:
    """Made on an event loop, and for it alone.

    Args:
        host: the engine.
        most_waiting: how many may wait; more are turned away.
    """

    def __init__(self, host: EngineHost, most_waiting: int) -> None:
        self._host = host
        self._most_waiting = most_waiting
        self._turn = asyncio.Lock()
        self._ids = itertools.count(1)
        self._ending: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.count = 0

    @property
    def is_busy(self) -> bool:
        """Whether one runs."""
        return self._turn.locked()

    def check_room(self) -> None:
        """Look before a request is read.

        Raises:
            BusyError: as many wait as may.
        """
        if self._turn.locked() and self.waiting >= self._most_waiting:
            raise BusyError(f"{self.waiting} requests wait already", code="queue_full", hint="try again in a while")

    async def run(self, job: OnceJob, timeout_s: float, watch: Watch) -> OnceDone:
        """Wait for the turn and run. Cancelling it stops the run; the next one begins when it has really ended.

        Raises:
            BusyError: too many wait.
            Refused: the deadline has passed; names the node that ran.
            ComfyStreamError: what went wrong with it.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._in_turn(job, watch)
        except TimeoutError:
            where = f"while node {watch.node} ran" if watch.node else "before a node ran"
            words = f"after {timeout_s:g} s, {where}" if watch.is_running else f"after {timeout_s:g} s in the queue"
            raise Refused(
                f"it was stopped {words}",
                status=TOO_LATE,
                code="deadline",
                hint="give more timeout_seconds",
                node_id=watch.node or None,
            ) from None

    async def _in_turn(self, job: OnceJob, watch: Watch) -> OnceDone:
        self.check_room()
        watch.ahead = self.waiting + self._turn.locked()
        self.waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        to_loop = ToLoop(asyncio.get_running_loop(), watch.heard, MOST_EVENTS)
        id = next(self._ids)
        run = _Run(id, asyncio.create_task(self._start(id, job, to_loop.put), name=f"once-{id}"))
        try:
            _, future = await asyncio.shield(run.starting)
            done = await result(future)
            self.count += 1
            return done
        finally:
            ending = asyncio.create_task(self._end(run), name=f"once-end-{id}")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _start(self, id: int, job: OnceJob, on_event: Callable[[Event], None]) -> tuple[Engine, Future[OnceDone]]:
        engine = await self._host.get()
        return engine, await call(engine.run_once, id, job, on_event)

    async def _end(self, run: _Run) -> None:
        """Stop it if it still runs; whoever waits has the turn when it has ended."""
        try:
            engine, future = await run.starting
            if not future.done():
                await call(engine.stop_once, run.id)
            ended = asyncio.wrap_future(future)
            ended.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever asked has heard it
            await asyncio.wait([ended])
        except ComfyStreamError as error:
            _log.debug("run %d: %s", run.id, error)
        finally:
            self._turn.release()

    async def close(self) -> None:
        """Wait for the end of what runs, not for ever."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=END_S)
