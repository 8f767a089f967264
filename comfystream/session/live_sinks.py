"""The sinks of a live session beside its viewers: recordings and pushes, any number at once."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from comfystream.clock import SystemClock
from comfystream.errors import BusyError, ComfyStreamError
from comfystream.frames import TextCue
from comfystream.session.live_readers import Reader
from comfystream.session.live_sink_state import PushSink, RecordSink, SinkChanged, SinkState, SinkStats
from comfystream.session.live_sink_thread import SinkThread
from comfystream.session.loop_bridge import ToLoop, call

if TYPE_CHECKING:
    from comfystream.frames import Frame
    from comfystream.media.live_writer import LiveWriter

__all__ = ["NoSuchSink", "Sinks"]

_log = logging.getLogger(__name__)
MOST = 8
KEPT = 16  # sinks that are over and still shown
END_S, ABORT_S = 5.0, 2.0
RATE_OVER = 5


class NoSuchSink(ComfyStreamError, LookupError):
    """The session has no sink of that id."""

    default_code = "no_such_sink"


class _Sink:
    """One of them, on the loop."""

    def __init__(self, owner: Sinks, id: str, wanted: RecordSink | PushSink, frames: Reader[Frame]) -> None:
        self.id = id
        self.wanted = wanted
        self.state = SinkState.STARTING
        self.reason = ""
        self._owner = owner
        self._frames = frames
        self._clock = SystemClock()
        self._sizes: deque[tuple[int, int]] = deque(maxlen=RATE_OVER)
        self._said: ToLoop[tuple[SinkState, str]] = ToLoop(asyncio.get_running_loop(), self._hear, 64)
        self._thread = SinkThread(
            f"sink-{id}",
            _maker(wanted, owner.gives),
            lambda state, reason: self._said.put((state, reason)),
            may_retry=isinstance(wanted, PushSink),
        )
        self._pump = asyncio.create_task(self._pass_frames(), name=f"sink-{id}")

    async def _pass_frames(self) -> None:
        async with self._frames as frames:
            async for frame in frames:
                if not isinstance(frame, TextCue):
                    self._thread.offer(frame, self._clock.now_ns())
        self._thread.end()

    def _hear(self, said: tuple[SinkState, str]) -> None:
        self.state, self.reason = said
        if self.state.is_over:
            self._frames.close()
        self._owner.changed(self)

    def stats(self) -> SinkStats:
        written = self._thread.written
        return SinkStats(
            sink=self.id,
            type=self.wanted.type,
            target=self.wanted.target,
            state=self.state,
            reason=self.reason,
            frames=written.frames,
            dropped=self._thread.dropped + self._frames.dropped,
            left_out=written.left_out,
            size=written.size,
            kbps=self._rate(written.size),
        )

    def _rate(self, size: int) -> float:
        now = self._clock.now_ns()
        if not self._sizes or now - self._sizes[-1][0] > 900_000_000:
            self._sizes.append((now, size))
        then, before = self._sizes[0]
        return round((size - before) * 8e6 / (now - then), 1) if now > then else 0.0

    async def close(self) -> None:
        """Write the end, in bounded time."""
        self._frames.close()
        await self._pump
        if not await call(self._thread.join, END_S):
            self._thread.abort()
            if not await call(self._thread.join, ABORT_S):
                _log.warning("sink %s does not end; it is left alone", self.id)


class Sinks:
    """All of a session's.

    Args:
        session: its id, for the log.
        subscribe: a reader of what the session puts out.
        gives: what kinds of frames that is, as far as it is known.
        tell: is told of each change.
    """

    def __init__(
        self,
        session: str,
        subscribe: Callable[[], Reader[Frame]],
        gives: Callable[[], frozenset[str]],
        tell: Callable[[SinkChanged], None],
    ) -> None:
        self._session = session
        self._subscribe = subscribe
        self.gives = gives
        self._tell = tell
        self._sinks: dict[str, _Sink] = {}
        self._numbers = itertools.count(1)

    @property
    def are_running(self) -> bool:
        """Whether any of them is not over: then the session is wanted, even without a viewer."""
        return any(not sink.state.is_over for sink in self._sinks.values())

    def add(self, wanted: RecordSink | PushSink) -> str:
        """Start a sink; its id. What becomes of it is told by events.

        Raises:
            BusyError: there are as many as there may be.
        """
        if sum(not sink.state.is_over for sink in self._sinks.values()) >= MOST:
            raise BusyError(f"the session has {MOST} sinks already", code="too_many_sinks", hint="remove one first")
        self._forget()
        id = f"{wanted.type}-{next(self._numbers)}"
        sink = self._sinks[id] = _Sink(self, id, wanted, self._subscribe())
        self.changed(sink)
        return id

    async def remove(self, id: str) -> None:
        """End a sink; its file is complete afterwards.

        Raises:
            NoSuchSink: there is none of that id.
        """
        sink = self._sinks.get(id)
        if sink is None:
            known = ", ".join(self._sinks)
            raise NoSuchSink(f'there is no sink "{id[:40]}"', hint=f"there are {known}" if known else "there are none")
        await sink.close()

    def stats(self) -> tuple[SinkStats, ...]:
        """Figures of all, those that are over included."""
        return tuple(sink.stats() for sink in self._sinks.values())

    def changed(self, sink: _Sink) -> None:
        """A sink says how it is."""
        _log.info("session %s: %s %s is %s %s", self._session, sink.id, sink.wanted.target, sink.state, sink.reason)
        self._tell(SinkChanged(sink.id, sink.wanted.type, sink.wanted.target, sink.state, sink.reason))

    def _forget(self) -> None:
        over = [id for id, sink in self._sinks.items() if sink.state.is_over]
        for id in over[: max(0, len(over) - KEPT)]:
            del self._sinks[id]

    async def close(self) -> None:
        """End all. Idempotent."""
        await asyncio.gather(*(sink.close() for sink in self._sinks.values()))


def _maker(wanted: RecordSink | PushSink, gives: Callable[[], frozenset[str]]) -> Callable[[], LiveWriter]:
    expects = gives()
    if isinstance(wanted, RecordSink):
        from comfystream.media.live_writer import RecordWriter

        path = wanted.path
        return lambda: RecordWriter(path, expects)
    from comfystream.media.push_writer import PushWriter

    url, kbps = wanted.url, wanted.kbps
    return lambda: PushWriter(url, kbps, expects)
