"""One stream: what comes in goes through a pipe and out again, while orders, events and texts go beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any

from comfystream.byoc.backend import Backend, Outlet, Pipe, StreamStart
from comfystream.byoc.events import BEAT_S, EVENTS, event, heartbeat, now_ms, status
from comfystream.byoc.figures import Figures
from comfystream.byoc.links import Links, Outgoing
from comfystream.byoc.media import MediaPath
from comfystream.byoc.messages import StartBody, StreamParams, stream_params
from comfystream.byoc.recent import RecentItems
from comfystream.errors import BusyError, ComfyStreamError, ConfigError, NetworkError
from comfystream.trickle.messages import read_messages

__all__ = ["Stream"]

_log = logging.getLogger(__name__)
DRAIN_S = 1.0
HANG_UP_S = 2.0
CLOSE_S = 3.0
MOST_UPDATES = 32
MOST_EARLY = 100  # items that an app sends before its stream's channels are open
CUSTOM = "custom_monitoring_event"


class Stream:
    """Made by a worker for each start. `open`, then `run` until it is over; `end` makes that happen.

    Args:
        body: what it was started with.
        size: of pictures to come, where the start does not say.
        capability: the name under which it was asked for.
        links: opens its channels.
        backend: does its work.

    Attributes:
        recent: items that it said last on its data channel, or would have said.
    """

    def __init__(
        self, body: StartBody, size: tuple[int, int] | None, capability: str, links: Links, backend: Backend
    ) -> None:
        self.id = body.gateway_request_id
        self.channels = body.channels
        self.params: dict[str, Any] = body.params.model_dump(exclude_unset=True)
        self.figures = Figures(body.params.size or size)
        self.recent = RecentItems()
        self._body = body
        self._size = body.params.size or size
        self._capability = capability
        self._links = links
        self._backend = backend
        self._pipe: Pipe | None = None
        self._media: MediaPath | None = None
        self._events: Outgoing | None = None
        self._data: Outgoing | None = None
        self._early: deque[Any] = deque(maxlen=MOST_EARLY)
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._changing = asyncio.Lock()
        self._updates = 0

    @property
    def pipe(self) -> Pipe:
        """What does its work, once it is open."""
        assert self._pipe is not None
        return self._pipe

    @property
    def is_over(self) -> bool:
        """Whether something has ended it; what is left of it is being closed."""
        return self._over.done()

    @property
    def is_changing(self) -> bool:
        """Whether parameters are being taken over, which a workflow may need seconds for."""
        return self._changing.locked()

    async def lost(self) -> dict[str, int]:
        """Frames that came and did not go out, by reason."""
        found = self._media.lost() if self._media is not None else {}
        with contextlib.suppress(ComfyStreamError):  # the engine starts again
            found |= await self._pipe.lost() if self._pipe is not None else {}
        return found

    # --- its life

    async def open(self) -> None:
        """Make its pipe.

        Raises:
            ComfyStreamError: the parameters cannot be used.
        """
        outlet = Outlet(data=self._put_data, event=self._tell)
        start = StreamStart(self.id, self._body.params, self._size, self._capability, outlet)
        self._pipe = await self._backend.open(start)

    def end(self, reason: str) -> None:
        """Let it end; `run` returns a moment later. Idempotent."""
        if not self._over.done():
            self._over.set_result(reason)

    async def run(self) -> str:
        """Until it is over; says why. Whatever happens, nothing of it is left then."""
        tasks = self._begin()
        try:
            await asyncio.wait([self._over, *tasks], return_when=asyncio.FIRST_COMPLETED)
            self.end(next((_reason(task) for task in tasks if task.done()), "ended"))
        finally:
            self.end("aborted")
            await self._close(tasks)
        return self._over.result()

    async def discard(self) -> None:
        """Let go of a stream that was opened, or not even that, and never ran."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            await _bounded(pipe.close(), CLOSE_S, f"stream {self.id}: its work")

    def _begin(self) -> list[asyncio.Task[str]]:
        urls, links = self.channels, self._links
        is_fixed = self._body.params.detect_out_resolution is False
        size = self._size if is_fixed else None
        self._media = MediaPath(self.pipe, self.figures, self._put_data, self._tell, size)
        self._media.set_params(self._body.params)
        work: list[tuple[str, Coroutine[Any, Any, str]]] = [("outputs", self._media.pump_out())]
        if urls.subscribe_url:
            self._media.source = links.media_in(urls.subscribe_url, self._size)
            work.append(("in", self._media.pump_in()))
        if urls.publish_url:
            self._media.sink = links.media_out(urls.publish_url)
            work.append(("out", _until_over(self._media.sink.run(), "publish")))
        if urls.control_url:
            work.append(("control", self._listen(urls.control_url)))
        if urls.events_url:
            self._events = links.events(urls.events_url)
            work += [("events", _until_over(self._events.run(), "events")), ("beat", self._beat())]
        if urls.data_url:
            self._data = links.data(urls.data_url, as_objects=self._body.data_as_objects)
            while self._early:
                self._put_data(self._early.popleft(), is_early=True)
            work.append(("data", _until_over(self._data.run(), "data")))
        return [asyncio.create_task(coroutine, name=f"stream-{name}-{self.id}") for name, coroutine in work]

    async def _close(self, tasks: list[asyncio.Task[str]]) -> None:
        """In order: the work ends, what was said last is sent, the rest is cut off. Bounded in time."""
        reason = self._over.result()
        _log.info("stream %s ends: %s", self.id, reason)
        if reason == "input ended":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self.pipe.drain()
        self._tell({"type": "stream_stopped", "reason": reason}, EVENTS)
        last_words = [task for task in tasks if task.get_name().startswith(("stream-events-", "stream-data-"))]
        for outgoing in (self._events, self._data):
            if outgoing is not None:
                outgoing.queue.close()
        rest = [task for task in tasks if task not in last_words]
        for task in rest:
            task.cancel()
        closing = [asyncio.create_task(_bounded(self.pipe.close(), CLOSE_S, f"stream {self.id}: its work"))]
        if last_words:
            await asyncio.wait(last_words, timeout=DRAIN_S)
        for task in last_words:
            task.cancel()
        ends = [end for end in (self._media, self._events, self._data) if end is not None]
        closing += [asyncio.create_task(_bounded(end.close(), HANG_UP_S, f"stream {self.id}")) for end in ends]
        await asyncio.wait([*tasks, *closing])
        for task in tasks:
            _look_at(task, self.id)

    # --- orders

    async def update(self, document: Any, who: str) -> None:
        """Change parameters; the one way in for REST and control channel.

        Args:
            document: a JSON object.
            who: says so, for the log.

        Raises:
            ConfigError: it cannot be used.
            BusyError: too many wait.
            ComfyStreamError: the work does not take them; it goes on as it was.
        """
        params = stream_params(document)
        if self._updates >= MOST_UPDATES:
            raise BusyError(f"{MOST_UPDATES} updates wait already", code="too_many_updates")
        self._updates += 1
        try:
            async with self._changing:
                if self._over.done():
                    raise ConfigError("No active stream to update", code="no_stream")
                await self._apply(params)
        finally:
            self._updates -= 1
        _log.info("stream %s: parameters changed by %s", self.id, who)

    async def _apply(self, params: StreamParams) -> None:
        await self.pipe.update(params)
        given = params.model_dump(exclude_unset=True)
        self.params = {**self.params, **given}
        self.figures.last_params_ms = now_ms()
        if self._media is not None:
            self._media.set_params(params)
        self._tell({"type": "params_updated", "params": _short(given)}, EVENTS)

    async def _listen(self, url: str) -> str:
        """Orders of the control channel; its end is the stream's."""
        last: Any = None
        reader = self._links.control(url)
        try:
            async for order in read_messages(reader):
                if order == last:
                    continue  # gateways say the last one again after a reconnection
                if await self._obey(order):
                    last = order
        finally:
            await reader.close()
        return "control channel ended"

    async def _obey(self, order: Any) -> bool:
        try:
            await self.update(order, "control channel")
        except ComfyStreamError as error:
            _log.warning("stream %s: an update by the control channel is refused: %s", self.id, error)
            self._tell({"type": "error", "code": error.code, "message": str(error)[:2000]}, EVENTS)
            return False
        return True

    # --- what it says

    def _put_data(self, item: Any, *, is_early: bool = False) -> None:
        """Say something on the data channel; what an app says while it is being started waits for the channel."""
        if not is_early:
            self.recent.put(item)
        if self._data is None and self._media is None:
            self._early.append(item)
        elif self._data is not None:
            try:
                is_sent = self._data.queue.put(item)
            except ConfigError as error:
                is_sent, words = False, str(error)
            else:
                words = "an item for the data channel is too long for a line"
            if is_sent is False:
                self._tell({"type": "error", "code": "data_dropped", "message": words[:500]}, EVENTS)

    def _tell(self, said: dict[str, Any], queue: str = CUSTOM) -> None:
        if self._events is None:
            return
        kind = str(said.get("type", "custom"))
        rest = {name: value for name, value in said.items() if name != "type"}
        try:
            self._events.queue.put(event(kind, queue, **rest))
        except ConfigError as error:
            _log.warning("stream %s: event %s is not sent: %s", self.id, kind[:80], error)

    async def _beat(self) -> str:
        assert self._events is not None
        while True:
            self._events.queue.put(heartbeat(self.channels, self.figures))
            name = self._capability or "byoc"
            self._events.queue.put(status(name, self.figures, self.pipe.report(), self.params))
            await asyncio.sleep(BEAT_S)


async def _until_over(work: Coroutine[Any, Any, None], name: str) -> str:
    await work
    return f"{name} channel ended"


async def _bounded(work: Coroutine[Any, Any, None], limit_s: float, what: str) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await work
    except TimeoutError:
        _log.warning("%s did not end within %.0f s and is left behind", what, limit_s)
    except ComfyStreamError as error:
        _log.warning("%s: %s", what, error)


def _reason(task: asyncio.Task[str]) -> str:
    if task.cancelled():
        return "aborted"
    error = task.exception()
    if error is None:
        return task.result()
    return str(error) if isinstance(error, ComfyStreamError) else f"defect: {type(error).__name__}: {error}"


def _look_at(task: asyncio.Task[str], stream: str) -> None:
    """A channel that ended is told as the reason; anything else is a defect."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, NetworkError):
        _log.error("stream %s: %s met a defect", stream, task.get_name(), exc_info=error)


def _short(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as they are told: a workflow of many kilobytes is only named."""
    return {name: value if len(json.dumps(value)) <= 4000 else "(long)" for name, value in params.items()}
