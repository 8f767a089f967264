"""A client's stream: the same id, viewers and data from its start to its end, whichever workers do the work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any, TypeVar

from aiohttp import web

from comfystream.errors import BusyError, ComfyStreamError, ConfigError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.session.live_sink_state import PushSink

from ..rtc.audience import Audience
from ..rtc.ice import IceSettings
from .calls import Reply
from .feed import Feed
from .job import Job
from .leg import Hooks, Leg, Patience
from .orchestrator import Attempt, Orchestrator
from .outputs import Outputs
from .peers import Edge, EdgePeer, MediaClock
from .rtmp_edge import RtmpEdge

__all__ = ["GatewayStream", "StreamOptions", "StreamState"]

_log = logging.getLogger(__name__)
MOST_SWAPS, SWAPS_S = 3, 60.0  # more in that time is no bad luck any more
MOST_PUBLISHERS = 4  # of whom one has the place
AnEdge = TypeVar("AnEdge", bound=Edge)
ADDRESSES = ("subscribe_url", "publish_url", "control_url", "events_url", "data_url", "gateway_request_id")


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How streams are treated.

    Attributes:
        idle_s: without anybody who sends pictures (or, if none go in, who looks on) a stream ends after that.
        swap_wait_s: so long a stream waits for a worker when it has lost its own.
        most_viewers: of one stream.
        patience: with workers.
    """

    idle_s: float = 60.0
    swap_wait_s: float = 30.0
    most_viewers: int = 32
    patience: Patience = field(default_factory=Patience)


class StreamState(Enum):
    """Where in its life a stream is."""

    STARTING = "starting"
    RUNNING = "running"
    SWAPPING = "swapping"
    ENDED = "ended"


class GatewayStream:
    """`begin`, then it runs until `end`, or until nobody is there any more.

    Args:
        id: its name.
        job: what was asked for.
        params: for the worker.
        base: where its channels are reached from here.
        orchestrator: has the workers.
        ice: how clients are reached.
        options: how it is treated.
        on_end: called once, with the stream.
        outputs: receivers of what comes out.

    Attributes:
        name: that the client gave it; the id begins with it.
    """

    def __init__(
        self,
        id: str,
        job: Job,
        params: dict[str, Any],
        base: str,
        orchestrator: Orchestrator,
        ice: IceSettings,
        options: StreamOptions,
        on_end: Callable[[GatewayStream], None],
        outputs: Sequence[PushSink] = (),
    ) -> None:
        self.id, self.job, self.wants = id, job, job.wants
        self.name = ""
        self.state = StreamState.STARTING
        self.feed = Feed()
        self.outputs = Outputs(id, outputs, self.feed)
        self.swaps = 0
        self.error: dict[str, Any] | None = None
        self.reason = ""
        self._params, self._base, self._orchestrator = params, base, orchestrator
        self._ice, self._options, self._on_end = ice, options, on_end
        self._audience = Audience()
        self._peers: set[Edge] = set()
        self._publisher: Edge | None = None
        self._attempt: Attempt | None = None
        self._leg: Leg | None = None
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._began_ns = time.monotonic_ns()
        self._used_s = time.monotonic()
        self._status: dict[str, Any] = {}
        self._counts = {"in": 0, "out": 0}
        self._recent_swaps: list[float] = []
        self._attempts = 0

    # --- its life

    async def begin(self) -> None:
        """Find a worker that takes it.

        Raises:
            ComfyStreamError: there is none.
        """
        try:
            self._attempt = await self._start_somewhere()
        except BaseException:
            self._finish("no worker took it")
            raise
        self._go(StreamState.RUNNING)
        self.outputs.begin()
        self._task = asyncio.create_task(self._run(self._attempt), name=f"gateway-{self.id}")

    async def end(self, reason: str, body: bytes = b"") -> Reply | None:
        """End it for good; what the worker said to that. Idempotent."""
        if not self._over.done():
            self._over.set_result(reason)
        reply = await self._orchestrator.stop(self._attempt, body) if self._attempt is not None else None
        if self._task is not None:
            await asyncio.wait([self._task])
        return reply

    def _go(self, state: StreamState) -> None:
        if self.state is not StreamState.ENDED:
            self.state = state

    async def _run(self, attempt: Attempt) -> None:
        idle = asyncio.create_task(self._watch_idle(), name=f"gateway-idle-{self.id}")
        try:
            following: Attempt | None = attempt
            while following is not None:
                self._attempt = following
                reason = await self._serve(following)
                self._orchestrator.begin_stop(following, reason.encode())
                following = None if self._over.done() else await self._swap(following, reason)
        finally:
            idle.cancel()
            self._finish(self._over.result() if self._over.done() else "aborted")
            await asyncio.gather(self.outputs.close(), *(peer.close() for peer in list(self._peers)))
            await self.feed.close(self.reason)
            self._audience.close()

    async def _serve(self, attempt: Attempt) -> str:
        """Until the worker or the stream ends; says why."""
        hooks = Hooks(self._show, self._hear, self.feed.put)
        self._leg = Leg(attempt, attempt.urls(self._base), hooks, self._options.patience)
        running = asyncio.create_task(self._leg.run(), name=f"gateway-leg-{self.id}")
        self._go(StreamState.RUNNING)
        await self.feed.tell("status", {"state": self.state.value, "worker": attempt.worker.url, "swaps": self.swaps})
        try:
            await asyncio.wait([running, self._over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leg = None
            running.cancel()
            await asyncio.wait([running])
        if self._over.done():
            return self._over.result()
        return running.result() if not running.cancelled() else "aborted"

    async def _swap(self, lost: Attempt, reason: str) -> Attempt | None:
        """Another worker, or the same once it is well again; None ends the stream."""
        _log.warning("stream %s loses its worker %s: %s", self.id, lost.worker.url, reason)
        self._go(StreamState.SWAPPING)
        self._orchestrator.workers.failed(lost.worker)
        self.error = {"error_message": reason, "error_time": time.time_ns() // 1_000_000}
        await self.feed.tell("status", {"state": self.state.value, "reason": reason})
        now = time.monotonic()
        self._recent_swaps = [at for at in self._recent_swaps if now - at < SWAPS_S] + [now]
        if len(self._recent_swaps) > MOST_SWAPS:
            self._give_up(f"{MOST_SWAPS} workers failed within {SWAPS_S:g} s; the last one: {reason}")
            return None
        while not self._over.done():
            try:
                attempt = await self._start_somewhere()
            except BusyError as error:
                if time.monotonic() - now > self._options.swap_wait_s:
                    self._give_up(f"{reason}; and {error}")
                    return None
                await asyncio.wait([self._over], timeout=0.5)
            except ComfyStreamError as error:
                self._give_up(f"{reason}; and no other worker takes it: {error}")
                return None
            else:
                self.swaps += 1
                return attempt
        return None

    def _give_up(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def _start_somewhere(self) -> Attempt:
        self._attempts += 1
        root = self.id if self._attempts == 1 else f"{self.id}-again{self._attempts}"
        job = self.job
        return await self._orchestrator.start_somewhere(
            self.id, root, job.capability, self.wants, self._params, job.timeout_s
        )

    def _finish(self, reason: str) -> None:
        self.state, self.reason = StreamState.ENDED, reason
        self._on_end(self)

    async def _watch_idle(self) -> None:
        while not self._over.done():
            await asyncio.sleep(min(1.0, self._options.idle_s / 4))
            if self._is_used():
                self._used_s = time.monotonic()
            elif time.monotonic() - self._used_s > self._options.idle_s:
                what = "sends pictures" if self.wants.video_in else "looks on"
                self._give_up(f"nobody {what} for {self._options.idle_s:g} s")

    def _is_used(self) -> bool:
        if self.wants.video_in:
            return self._publisher is not None and self._publisher.is_connected
        is_watched = self.feed.listeners > 0 or any(peer.is_connected for peer in self._peers)
        return is_watched or self.outputs.are_running

    # --- orders

    async def update(self, body: bytes, document: dict[str, Any]) -> Reply:
        """Hand an update to the worker; what it took is also for those that come after it.

        Raises:
            ComfyStreamError: there is no worker at the moment, or it does not answer.
        """
        attempt = self._attempt
        if attempt is None or attempt.is_over or self.state is not StreamState.RUNNING:
            raise BusyError("the stream has no worker at the moment", code="swapping", hint="try again in some seconds")
        reply = await self._orchestrator.update(attempt, body)
        if reply.is_good:
            self._params = {**self._params, **document}
        return reply

    def status(self) -> dict[str, Any]:
        """How it is: the worker's own last word, and ours."""
        attempt = self._attempt
        return {
            **self._status,
            "stream_id": self.id,
            "gateway_state": self.state.value,
            "orchestrator": self._base,
            "worker": attempt.worker.url if attempt is not None else "",
            "swaps": self.swaps,
            "ingest_metrics": {"stats": self._publisher.stats if self._publisher is not None else {}},
            "frames": dict(self._counts),
            "viewers": len(self._watchers()),
            "rtmp_outputs": self.outputs.stats(),
            "error": self.error,
        }

    # --- frames and words

    def _take(self, peer: Edge, frame: VideoFrame | AudioFrame) -> None:
        """A frame of a client; the one whose first frame came last has the place."""
        if peer.clock is None:
            elapsed_s = Fraction(time.monotonic_ns() - self._began_ns, 10**9)
            peer.clock = MediaClock(elapsed_s)
            if self._publisher is not None and self._publisher is not peer:
                self._publisher.leave()
            self._publisher = peer
        if peer is self._publisher and self._leg is not None:
            self._counts["in"] += isinstance(frame, VideoFrame)
            self._leg.offer(peer.clock.placed(frame))

    def _show(self, frame: VideoFrame | AudioFrame) -> None:
        self._counts["out"] += isinstance(frame, VideoFrame)
        self._audience.offer(frame)
        self.outputs.offer(frame)

    def _hear(self, event: dict[str, Any]) -> None:
        if event.get("type") == "status":
            self._status = {name: value for name, value in event.items() if name not in ADDRESSES}

    # --- clients

    async def publish(self, stream: str, request: web.Request) -> EdgePeer:
        """For WHIP.

        Raises:
            BusyError: too many want to.
        """
        self._check_publishers()
        return self._add(EdgePeer(self._ice, on_frame=self._take, on_end=self._left))

    def publish_rtmp(self, send_away: Callable[[str], None]) -> RtmpEdge:
        """For RTMP.

        Args:
            send_away: ends the connection, saying why.

        Raises:
            ConfigError: no pictures are taken.
            BusyError: too many want to.
        """
        if not self.wants.video_in:
            raise ConfigError("this stream takes no pictures", code="no_ingress", hint="enable_video_ingress")
        self._check_publishers()
        return self._add(RtmpEdge(self.id, send_away, self._take, self._left))

    def _check_publishers(self) -> None:
        if len([peer for peer in self._peers if not peer.is_watcher]) >= MOST_PUBLISHERS:
            raise BusyError("several publish into this stream already", code="too_many_publishers")

    async def watch(self, stream: str, request: web.Request) -> EdgePeer:
        """For WHEP.

        Raises:
            BusyError: too many look on.
        """
        if len(self._watchers()) >= self._options.most_viewers:
            limit = self._options.most_viewers
            raise BusyError(f"{limit} look on already, that is the limit", code="too_many_viewers")
        video, sound = self._audience.outlets()
        ends = {"video": video, "sound": sound}
        return self._add(EdgePeer(self._ice, on_frame=self._take, on_end=self._left, is_watcher=True, **ends))

    def _watchers(self) -> list[Edge]:
        return [peer for peer in self._peers if peer.is_watcher]

    def _add(self, peer: AnEdge) -> AnEdge:
        self._peers.add(peer)
        return peer

    def _left(self, peer: Edge) -> None:
        self._peers.discard(peer)
        if peer is self._publisher:
            self._publisher = None
