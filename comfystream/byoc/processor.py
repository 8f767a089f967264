"""The one class that an app writes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import Any

from comfystream.byoc.frames import AudioFrame, VideoFrame

__all__ = ["FrameProcessor", "call_with", "current_stream"]

current_stream: ContextVar[Callable[[Any], None] | None] = ContextVar("current_stream", default=None)
"""Where `send_data` goes; set in the tasks of a stream."""


class FrameProcessor:
    """Derive from it and override what you need; every method may be `async def` or plain `def`.

    A plain method runs on a thread of its own, so it may take its time. A coroutine runs on the event loop that also
    keeps the connections alive: it should not compute for long without an `await`.

    Args:
        **kwargs: whatever your class wants to be told; they are kept in `self.options`.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.options = kwargs
        self._loading: asyncio.Task[None] | None = None
        self._streams: list[Callable[[Any], None]] = []

    # --- what an app overrides

    def initialize(self) -> Any:
        """Load models. Called once, before the first stream."""

    def process_video_async(self, frame: VideoFrame) -> Any:
        """A picture came: give one back, or None to put out nothing for it."""
        return self.process_frame(frame)

    def process_audio_async(self, frame: AudioFrame) -> Any:
        """A run of sound came: give back a list of runs, or None to put out nothing for it."""
        return [frame]

    def process_frame(self, frame: VideoFrame) -> Any:
        """The short form, for apps that look at pictures only."""
        return frame

    def update_params(self, params: dict[str, Any]) -> Any:
        """Parameters came, with the start of a stream or later; raise to refuse them."""

    def on_stream_start(self, params: dict[str, Any]) -> Any:
        """A stream begins. Meanwhile viewers see a loading picture."""

    def on_stream_stop(self) -> Any:
        """A stream has ended."""

    # --- what an app calls

    async def start(self) -> None:
        """Load; a second call waits for the first. One that failed is tried again by the next call."""
        if self._loading is None or (self._loading.done() and _has_failed(self._loading)):
            self._loading = asyncio.create_task(self._load(), name="processor-load")
        await asyncio.shield(self._loading)

    async def reload(self) -> None:
        """Load anew."""
        self._loading = None
        await self.start()

    async def _load(self) -> None:
        await call_with(None, getattr(self, "load_model", self.initialize))

    async def send_data(self, item: Any) -> bool:
        """Send text, or anything that JSON can hold, on the data channel; False while there is no stream.

        Called while a frame is processed it goes to that frame's stream, from elsewhere to all.
        """
        own = current_stream.get()
        streams = [own] if own is not None else [*self._streams]
        for send in streams:
            send(item)
        return bool(streams)


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.cancelled() or task.exception() is not None


async def call_with(threads: Executor | None, method: Callable[..., Any], *arguments: Any) -> Any:
    """Call an app's method: a coroutine here, a plain function on a thread, with as many arguments as it takes.

    Args:
        threads: where plain functions run; None takes the loop's own.
        method: bound.
        *arguments: those that it has no place for are left out.
    """
    arguments = arguments[: _places(method)]
    if inspect.iscoroutinefunction(method):
        return await method(*arguments)
    made = await asyncio.get_running_loop().run_in_executor(threads, lambda: method(*arguments))
    return await made if inspect.isawaitable(made) else made


def _places(method: Callable[..., Any]) -> int:
    """How many positional arguments it takes."""
    kinds = [parameter.kind for parameter in inspect.signature(method).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 9
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
