"""Prometheus metrics: counters of the sessions at scrape time, how long pictures take per stage, time per node."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from comfystream.frames import Stamps, VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_registry import Sessions
from comfystream.session.live_stages import STAGES

from .metric_sources import Machine, NodeTimes, Now, Sent, Traffic

__all__ = ["Metrics"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


LATE_NS = 1_000_000_000  # by then a picture is encoded and sent, or will not be
MOST_HELD = 512


class Metrics:
    """The metrics of one server.

    Args:
        sessions: what is counted.
        host: its engine.
        has_stream_label: `stream_fps` tells the streams apart.
        sent: of each connection the id of its session, its own number and its counters.
    """

    def __init__(
        self,
        sessions: Sessions,
        host: EngineHost,
        *,
        has_stream_label: bool,
        sent: Callable[[], Sent] = tuple,
    ) -> None:
        self._registry = CollectorRegistry()
        self._sessions = sessions
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(Now(sessions, host, has_stream_label))
        self._registry.register(Machine(host))
        self._registry.register(Traffic(sessions, sent))
        self._nodes = NodeTimes(self._registry)
        self._stages = Histogram(
            "comfystream_stage_seconds",
            "Time of a picture in each stage",
            ["stage"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._held: deque[Stamps] = deque()
        self._watching: set[asyncio.Task[None]] = set()

    def watch(self, session: LiveSession) -> None:
        """Measure a session's pictures until it ends."""
        task = asyncio.create_task(self._watch(session), name=f"metrics-{session.id}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, session: LiveSession) -> None:
        async with session.subscribe() as frames:
            async for frame in frames:
                if isinstance(frame, VideoFrame) and frame.stamps.computed:
                    self._observe("hand_over", frame.stamps.computed, time.monotonic_ns())
                    self._held.append(frame.stamps)
                    self._observe_late()

    def _observe_late(self) -> None:
        """The stages of pictures that came out a second ago: viewers have stamped them meanwhile."""
        late = time.monotonic_ns() - LATE_NS
        while self._held and (self._held[0].computed < late or len(self._held) > MOST_HELD):
            stamps = self._held.popleft()
            for stage, first, last in STAGES:
                self._observe(stage, getattr(stamps, first), getattr(stamps, last))

    def _observe(self, stage: str, began: int, ended: int) -> None:
        if began and ended >= began:
            self._stages.labels(stage).observe((ended - began) / 1e9)

    async def handle(self, request: web.Request) -> web.Response:
        """Everything, for Prometheus."""
        self._observe_late()
        sessions = [*self._sessions]
        every = await asyncio.gather(*(session.stats() for session in sessions))
        for session, stats in zip(sessions, every, strict=True):
            if stats.engine is not None:
                self._nodes.add((session.id, stats.revision), stats.engine.nodes)
        self._nodes.forget({session.id for session in sessions})
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
