"""The streams of a worker: who gets a place, how they start, change and stop. One lock guards all of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any

from comfystream.byoc.backend import Backend
from comfystream.byoc.links import Links
from comfystream.byoc.messages import StartBody, StateBody
from comfystream.byoc.state import LoadState, StreamState, may_follow, overall, state_body
from comfystream.byoc.stream import Stream
from comfystream.errors import BusyError, ComfyStreamError, ConfigError, EngineError

__all__ = ["NotReady", "NoSuchStream", "Worker", "WorkerOptions"]

_log = logging.getLogger(__name__)
RETRY_S, MOST_RETRY_S = 2.0, 60.0


class NotReady(BusyError):
    """What has to be loaded first is not there."""

    default_code = "not_ready"


class NoSuchStream(ComfyStreamError, LookupError):
    """There is a stream, but not that one."""

    default_code = "no_such_stream"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker treats its streams.

    Attributes:
        capacity: how many there may be at once.
        size: width and height that pictures are brought to where a start does not say; None leaves them as they come.
        load_wait_s: how long a start waits for what is loaded.
        stop_wait_s: how long a stop waits for the end of its stream; gateways wait 10 s.
    """

    capacity: int = 1
    size: tuple[int, int] | None = (512, 512)
    load_wait_s: float = 8.0
    stop_wait_s: float = 7.0


@dataclass(slots=True)
class _Slot:
    stream: Stream
    state: StreamState = StreamState.STARTING
    task: asyncio.Task[None] | None = None

    @property
    def is_ending(self) -> bool:
        """Whether its place is about to be free: somebody stopped it, or its channels ended."""
        return self.state is StreamState.STOPPING or self.stream.is_over


class Worker:
    """Made on an event loop, and for it alone.

    Args:
        backend: does the work.
        links: opens channels.
        options: how streams are treated.
    """

    def __init__(self, backend: Backend, links: Links, options: WorkerOptions | None = None) -> None:
        self.options = options or WorkerOptions()
        self._backend = backend
        self._links = links
        self._load = LoadState.LOADING
        self._error = ""
        self._slots: dict[str, _Slot] = {}
        self._lock = asyncio.Condition()
        self._idle_since: float | None = None
        self._loading: asyncio.Task[None] | None = None
        self._try_now = asyncio.Event()
        self.started = 0

    # --- how it is

    @property
    def state(self) -> str:
        """LOADING, IDLE, STARTING, RUNNING, STOPPING or ERROR."""
        return overall(self._load, [slot.state for slot in self._slots.values()])

    def state_body(self) -> StateBody:
        """What is told about it."""
        states = {name: slot.state for name, slot in self._slots.items()}
        return state_body(self._load, states, self.options.capacity, self._error, len(asyncio.all_tasks()))

    @property
    def streams(self) -> list[Stream]:
        """Those that are there, the oldest first."""
        return [slot.stream for slot in self._slots.values()]

    def is_running(self, stream: Stream) -> bool:
        """Whether its frames flow."""
        slot = self._slots.get(stream.id)
        return slot is not None and slot.stream is stream and slot.state is StreamState.RUNNING

    @property
    def idle_s(self) -> float:
        """Seconds since it could take a stream and had none; 0 while that is not so."""
        return 0.0 if self._idle_since is None else max(1e-9, time.monotonic() - self._idle_since)

    async def _go(self, slot: _Slot, state: StreamState) -> None:
        async with self._lock:
            if may_follow(slot.state, state):
                slot.state = state
            self._lock.notify_all()

    def _note_idle(self) -> None:
        is_idle = self._load is LoadState.READY and not self._slots
        self._idle_since = (self._idle_since or time.monotonic()) if is_idle else None

    # --- loading

    def begin(self) -> None:
        """Load in the background; a failure is tried again for ever, less and less often."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load_until_it_works(), name="worker-load")

    async def _load_until_it_works(self) -> None:
        pause_s = RETRY_S
        while not await self._load_once():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._try_now.wait()
            self._try_now.clear()
            pause_s = min(2 * pause_s, MOST_RETRY_S)

    async def _load_once(self) -> bool:
        try:
            await self._backend.load()
        except ComfyStreamError as error:
            _log.error("the worker cannot load: %s", error)
            await self._loaded(LoadState.ERROR, str(error))
            return False
        await self._loaded(LoadState.READY)
        return True

    async def _loaded(self, state: LoadState, error: str = "") -> None:
        async with self._lock:
            if self._load is not LoadState.CLOSED:
                self._load, self._error = state, error
            self._note_idle()
            self._lock.notify_all()

    # --- starting

    async def start(self, body: StartBody, capability: str = "") -> Stream:
        """Start a stream. A second start of a stream that is there is the same one; cancelling it aborts it.

        Raises:
            BusyError: all places are taken.
            NotReady: what has to be loaded is not there in time.
            ComfyStreamError: the parameters cannot be used.
        """
        slot, is_new = await self._reserve(body, capability)
        if not is_new:
            return await self._join(slot)
        try:
            await self._wait_until_loaded(slot)
            await slot.stream.open()
            async with self._lock:
                if slot.state is not StreamState.STARTING:
                    raise EngineError("the stream was stopped while it started", code="stopped")
                slot.state = StreamState.RUNNING
                slot.task = asyncio.create_task(self._tend(slot), name=f"stream-{slot.stream.id}")
                self._lock.notify_all()
        except BaseException:
            await asyncio.shield(self._abort(slot))
            raise
        self.started += 1
        return slot.stream

    async def _reserve(self, body: StartBody, capability: str) -> tuple[_Slot, bool]:
        async with self._lock:
            known = self._slots.get(body.gateway_request_id)
            if known is None:
                await self._until_free()
            elif known.is_ending:
                await self._until_gone(known)
            known = self._slots.get(body.gateway_request_id)
            if known is not None and not known.is_ending:
                return known, False
            if len(self._slots) >= self.options.capacity or self._load is LoadState.CLOSED:
                raise BusyError("Pipeline is still in use", code="in_use")
            slot = _Slot(Stream(body, self.options.size, capability, self._links, self._backend))
            self._slots[slot.stream.id] = slot
            self._note_idle()
            return slot, True

    async def _until_gone(self, slot: _Slot) -> None:
        """Wait for the end of a stream, not for ever; the lock is held."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.stop_wait_s):
                await self._lock.wait_for(lambda: self._slots.get(slot.stream.id) is not slot)

    async def _until_free(self) -> None:
        """Wait for a place that is about to be free, not for ever; the lock is held."""

        def holds() -> bool:
            return len(self._slots) < self.options.capacity or not any(it.is_ending for it in self._slots.values())

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.stop_wait_s):
                await self._lock.wait_for(holds)

    async def _join(self, slot: _Slot) -> Stream:
        """Somebody starts it already: its outcome is ours."""
        async with self._lock:
            await self._lock.wait_for(lambda: slot.state is not StreamState.STARTING)
        if slot.state is not StreamState.RUNNING:
            raise BusyError("Pipeline is still in use", code="in_use")
        return slot.stream

    async def _wait_until_loaded(self, slot: _Slot) -> None:
        self._try_now.set()
        waited_for = (LoadState.READY, LoadState.CLOSED)
        async with self._lock:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.load_wait_s):
                    await self._lock.wait_for(
                        lambda: self._load in waited_for or slot.state is not StreamState.STARTING
                    )
            if self._load is not LoadState.READY:
                raise NotReady("Pipeline is still initializing. Please wait for IDLE status.")

    async def _abort(self, slot: _Slot) -> None:
        """A start did not come to its end."""
        await self._go(slot, StreamState.STOPPING)
        slot.stream.end("the start was aborted")
        if slot.task is None:
            with contextlib.suppress(ComfyStreamError):
                await slot.stream.discard()
            await self._free(slot)
        else:
            await asyncio.wait([slot.task])

    async def _tend(self, slot: _Slot) -> None:
        """Run it to its end, however that comes."""
        try:
            reason = await slot.stream.run()
            _log.info("stream %s has ended: %s", slot.stream.id, reason)
        finally:
            await self._free(slot)

    async def _free(self, slot: _Slot) -> None:
        async with self._lock:
            if self._slots.get(slot.stream.id) is slot:
                del self._slots[slot.stream.id]
            self._note_idle()
            self._lock.notify_all()

    # --- changing and stopping

    def find(self, id: str | None) -> Stream | None:
        """The stream of that name; the only one when none is named; None when there is none at all.

        Raises:
            NoSuchStream: there are others.
            ConfigError: there are several, and none is named.
        """
        if not self._slots:
            return None
        if id is not None:
            slot = self._slots.get(id)
            if slot is None:
                raise NoSuchStream(f"there is no stream {id[:80]!r} here")
            return slot.stream
        if len(self._slots) > 1:
            raise ConfigError(f"{len(self._slots)} streams run here; name one with X-Stream-Id", code="which_stream")
        return next(iter(self._slots.values())).stream

    async def update(self, id: str | None, document: Any) -> None:
        """Change a stream's parameters.

        Raises:
            ConfigError: there is none, or they cannot be used.
            NoSuchStream: there is another one.
            ComfyStreamError: the work does not take them.
        """
        stream = self.find(id)
        slot = None if stream is None else self._slots[stream.id]
        if slot is not None and slot.state is StreamState.STARTING:
            await self._join(slot)
        if stream is None or slot is None or slot.state is not StreamState.RUNNING:
            raise ConfigError("No active stream to update", code="no_stream")
        await stream.update(document, "a request")

    async def stop(self, id: str | None, reason: str = "stopped by a request") -> bool:
        """Stop a stream and wait for its end; False when there is none (of that name).

        Raises:
            ConfigError: there are several, and none is named.
        """
        try:
            stream = self.find(id)
        except NoSuchStream:
            return False
        if stream is None:
            return False
        slot = self._slots[stream.id]
        await self._go(slot, StreamState.STOPPING)
        stream.end(reason)
        async with self._lock:
            await self._until_gone(slot)
        return True

    async def until_over(self, stream: Stream) -> None:
        """Return when nothing is left of a stream."""

        def is_gone() -> bool:
            slot = self._slots.get(stream.id)
            return slot is None or slot.stream is not stream

        async with self._lock:
            await self._lock.wait_for(is_gone)

    async def close(self) -> None:
        """Stop everything. Idempotent."""
        await self._loaded(LoadState.CLOSED)
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
            self._loading = None
        await asyncio.gather(*(self.stop(stream.id, "the worker is shutting down") for stream in self.streams))
        await self._backend.close()
