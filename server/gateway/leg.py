"""One attempt's far ends: pictures and sound into its channels and out of them, orders, events and texts beside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from comfystream.errors import ComfyStreamError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.trickle.media_in import MediaReader
from comfystream.trickle.media_out import MediaWriter
from comfystream.trickle.messages import EventWriter, read_messages
from comfystream.trickle.reader import TrickleReader
from comfystream.trickle.writer import TrickleWriter

from .orchestrator import Attempt
from .workers import Health

__all__ = ["Hooks", "Leg", "Patience"]

_log = logging.getLogger(__name__)
MOST_LINE = 1 << 20
CLOSE_S = 3.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker may keep silent before the stream goes to another.

    Attributes:
        events_s: without an event.
        output_s: without a picture, while pictures go in.
        keep_alive_s: how often the worker is told that somebody is there.
        look_s: how often all that is looked at.
    """

    events_s: float = 30.0
    output_s: float = 30.0
    keep_alive_s: float = 10.0
    look_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is done with what comes: frames, the worker's events, lines of data."""

    on_frame: Callable[[VideoFrame | AudioFrame], None]
    on_event: Callable[[dict[str, Any]], None]
    on_line: Callable[[str], Awaitable[None]]


class Leg:
    """Runs from the worker's yes until something ends it; `run` says what.

    Args:
        attempt: at which worker, with which channels.
        urls: of the channels, by kind.
        hooks: take what comes.
        patience: with the worker.
    """

    def __init__(self, attempt: Attempt, urls: dict[str, str], hooks: Hooks, patience: Patience) -> None:
        self.attempt = attempt
        self._urls = urls
        self._hooks = hooks
        self._patience = patience
        self._writer = MediaWriter(urls[""]) if "" in urls else None
        self._has_started = False
        self._seen = dict.fromkeys(("event", "in", "out"), time.monotonic())
        self._ended = ""

    def offer(self, frame: VideoFrame | AudioFrame) -> None:
        """A frame for the worker; never waits."""
        if self._writer is not None and self._has_started:
            self._seen["in"] = time.monotonic()
            self._writer.offer(frame)

    async def run(self) -> str:
        """Until something ends; says what. Cancelling it ends everything as well."""
        tasks = [asyncio.create_task(work, name=f"leg-{name}") for name, work in self._work().items()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(_reason(task) for task in done)
        finally:
            await self._close(tasks)

    def _work(self) -> dict[str, Coroutine[Any, Any, str]]:
        work = {"control": self._keep_alive(), "events": self._events(), "watch": self._watch()}
        if self._writer is not None:
            work["in"] = self._send(self._writer)
        if "-out" in self._urls:
            work["out"] = self._receive()
        if "-data" in self._urls:
            work["data"] = self._data()
        return work

    async def _close(self, tasks: list[asyncio.Task[str]]) -> None:
        for task in tasks:
            task.cancel()
        closing = [*tasks]
        if self._writer is not None:
            closing.append(asyncio.create_task(_hang_up(self._writer), name="leg-close"))
        await asyncio.wait(closing, timeout=CLOSE_S)

    async def _send(self, writer: MediaWriter) -> str:
        await writer.start()
        self._has_started = True
        self._seen["in"] = float("-inf")
        await writer.wait_over()
        return "the input channel has ended"

    async def _receive(self) -> str:
        async with MediaReader(self._urls["-out"]) as reader:
            async for frame in reader:
                self._seen["out"] = time.monotonic()
                self._hooks.on_frame(frame)
        return "the output channel has ended"

    async def _keep_alive(self) -> str:
        async with TrickleWriter(self._urls["-control"], content_type="application/json") as writer:
            events = EventWriter(writer)
            sending = asyncio.create_task(events.run(), name="leg-control")
            try:
                while not sending.done():
                    events.put({"keep": "alive"})
                    await asyncio.wait([sending], timeout=self._patience.keep_alive_s)
                sending.result()
            finally:
                sending.cancel()
                await asyncio.wait([sending])
        return "the control channel has ended"

    async def _events(self) -> str:
        async with TrickleReader(self._urls["-events"]) as reader:
            async for document in read_messages(reader):
                self._seen["event"] = time.monotonic()
                said = document.get("event", document) if isinstance(document, dict) else None
                if isinstance(said, dict):
                    if said.get("type") == "stream_stopped":
                        return f"the worker has ended it: {str(said.get('reason') or 'no reason given')[:300]}"
                    self._hooks.on_event(said)
        return "the events channel has ended"

    async def _data(self) -> str:
        async with TrickleReader(self._urls["-data"]) as reader:
            async for segment in reader:
                rest = b""
                async with contextlib.aclosing(segment.chunks()) as chunks:
                    async for data in chunks:
                        *lines, rest = (rest + data).split(b"\n")
                        for line in lines:
                            await self._hooks.on_line(line.decode(errors="replace"))
                        if len(rest) > MOST_LINE:
                            _log.warning("stream %s: a line of data is too long and left out", self.attempt.stream)
                            rest = b""
                await self._hooks.on_line(rest.decode(errors="replace"))
        return "the data channel has ended"

    async def _watch(self) -> str:
        while True:
            await asyncio.sleep(self._patience.look_s)
            now, seen, patience = time.monotonic(), self._seen, self._patience
            if self.attempt.worker.health is Health.GONE:
                return "the worker does not answer any more"
            if now - seen["event"] > patience.events_s:
                return f"the worker told nothing for {patience.events_s:g} s"
            is_fed = now - seen["in"] < patience.output_s / 2
            if not is_fed:
                seen["out"] = now
            elif "-out" in self._urls and now - seen["out"] > patience.output_s:
                return f"no picture came out for {patience.output_s:g} s"


def _reason(task: asyncio.Task[str]) -> str:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, ComfyStreamError):
        return str(error)
    _log.error("%s met a defect", task.get_name(), exc_info=error)
    return f"defect: {type(error).__name__}: {error}"


async def _hang_up(writer: MediaWriter) -> str:
    try:
        await writer.close(0.5)
    except ComfyStreamError as error:
        _log.info("%s: %s", writer.url, error)
    return ""
