"""Where threads and the event loop meet; nowhere else.

The engine calls back on its own threads and its calls may block for a moment. What comes from there goes through
`ToLoop`, frames that go there through `FromLoop`, calls through `call`, and futures through `result`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, ParamSpec, TypeVar

from comfystream.channels import Closed
from comfystream.frames import AudioFrame, VideoFrame

__all__ = ["FromLoop", "ToLoop", "call", "result"]

T = TypeVar("T")
P = ParamSpec("P")
SOUND_BACKLOG = 100  # frames of 20 ms: two seconds


async def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call something that may block, on a thread."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def result(future: Future[T]) -> T:
    """Wait for the engine's answer. Whoever stops waiting does not cancel what the engine does."""
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())  # heard, even if nobody waits
    return await asyncio.shield(wrapped)


class ToLoop(Generic[T]):
    """Items from any thread to a callback on the loop, in order; the oldest go when the loop is behind.

    Args:
        loop: where the callback runs.
        deliver: the callback.
        size: how many items may wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[T], None], size: int) -> None:
        self._loop = loop
        self._deliver = deliver
        self._items: deque[T] = deque(maxlen=size)
        self._lock = threading.Lock()
        self._is_called = False
        self.dropped = 0

    def put(self, item: T) -> None:
        """Hand over an item; never waits."""
        with self._lock:
            self.dropped += len(self._items) == self._items.maxlen
            self._items.append(item)
            if self._is_called:
                return
            self._is_called = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            items = list(self._items)
            self._items.clear()
            self._is_called = False
        for item in items:
            self._deliver(item)


class FromLoop:
    """Frames from the loop to a function that may block for a moment, on a thread of its own.

    A picture that was not taken yet is replaced by a newer one; of sound the oldest goes when two seconds wait.

    Args:
        name: of the thread.
        sink: takes the frames; `Closed` ends the thread.

    Attributes:
        dropped: pictures and runs of sound that were not taken in time.
    """

    def __init__(self, name: str, sink: Callable[[VideoFrame | AudioFrame], object]) -> None:
        self._sink = sink
        self._picture: VideoFrame | None = None
        self._sounds: deque[AudioFrame] = deque(maxlen=SOUND_BACKLOG)
        self._ready = threading.Condition()
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, frame: VideoFrame | AudioFrame) -> None:
        """Hand over a frame; never waits."""
        with self._ready:
            if isinstance(frame, VideoFrame):
                self.dropped += self._picture is not None
                self._picture = frame
            else:
                self.dropped += len(self._sounds) == SOUND_BACKLOG
                self._sounds.append(frame)
            self._ready.notify()

    def _run(self) -> None:
        with contextlib.suppress(Closed):
            while True:
                for frame in self._take():
                    self._sink(frame)

    def _take(self) -> list[VideoFrame | AudioFrame]:
        with self._ready:
            self._ready.wait_for(lambda: self._closed or self._picture is not None or self._sounds)
            if self._closed:
                raise Closed
            frames: list[VideoFrame | AudioFrame] = [*self._sounds]
            self._sounds.clear()
            if self._picture is not None:
                frames.append(self._picture)
                self._picture = None
            return frames

    def close(self) -> None:
        """End the thread, dropping what waits. Idempotent; does not wait for it."""
        with self._ready:
            self._closed = True
            self._ready.notify()
