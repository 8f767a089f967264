"""Prometheus metrics: counters of the sessions at scrape time, and how long frames take per stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from comfystream.frames import VideoFrame
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_registry import Sessions

__all__ = ["Metrics"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """The metrics of one server.

    Args:
        sessions: what is counted.
        host: its engine.
        has_stream_label: `stream_fps` tells the streams apart.
    """

    def __init__(self, sessions: Sessions, host: EngineHost, *, has_stream_label: bool) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(_Now(sessions, host, has_stream_label))
        self._stages = Histogram(
            "comfystream_stage_seconds",
            "Time of a picture in each stage",
            ["stage"],
            buckets=BUCKETS,
            registry=self._registry,
        )
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
                    stamps, now = frame.stamps, time.monotonic_ns()
                    self._observe("wait", stamps.decoded, stamps.entered)
                    self._observe("compute", stamps.entered, stamps.computed)
                    self._observe("hand_over", stamps.computed, now)

    def _observe(self, stage: str, began: int, ended: int) -> None:
        if began and ended >= began:
            self._stages.labels(stage).observe((ended - began) / 1e9)

    async def handle(self, request: web.Request) -> web.Response:
        """GET /metrics."""
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


class _Now(Collector):
    """Reads the sessions when somebody asks."""

    def __init__(self, sessions: Sessions, host: EngineHost, has_stream_label: bool) -> None:
        self._sessions = sessions
        self._host = host
        self._has_stream_label = has_stream_label

    def collect(self) -> Iterator[Metric]:
        """The metrics of now."""
        sessions = [*self._sessions]
        yield self._stream_fps(sessions)
        yield GaugeMetricFamily("comfystream_sessions", "Sessions", value=len(sessions))
        yield GaugeMetricFamily("comfystream_sessions_limit", "Most sessions at once", value=self._sessions.most)
        yield GaugeMetricFamily("comfystream_viewers", "Viewers", value=sum(s.viewers for s in sessions))
        yield GaugeMetricFamily("comfystream_tasks", "Tasks of the event loop", value=len(asyncio.all_tasks()))
        yield CounterMetricFamily("comfystream_sessions_started", "Sessions so far", value=self._sessions.started)
        yield CounterMetricFamily("comfystream_engine_starts", "Starts of the engine", value=self._host.starts)
        frames = CounterMetricFamily("comfystream_frames", "Pictures", labels=["session", "way"])
        dropped = CounterMetricFamily("comfystream_dropped", "Dropped frames", labels=["session", "reason"])
        restarts = CounterMetricFamily("comfystream_engine_restarts", "Restarts under a session", labels=["session"])
        for session in sessions:
            counts = session.counts()
            frames.add_metric([session.id, "in"], counts.frames_in)
            frames.add_metric([session.id, "out"], counts.frames_out)
            restarts.add_metric([session.id], counts.restarts)
            for reason, count in counts.dropped.items():
                dropped.add_metric([session.id, reason], count)
        yield from (frames, dropped, restarts)

    def _stream_fps(self, sessions: list[LiveSession]) -> Metric:
        words = "Pictures per second of a stream"
        if self._has_stream_label:
            family = GaugeMetricFamily("stream_fps", words, labels=["stream_id"])
            for session in sessions:
                family.add_metric([session.id], session.output_fps().fps)
            return family
        rates = [session.output_fps().fps for session in sessions]
        return GaugeMetricFamily("stream_fps", words, value=sum(rates) / len(rates) if rates else 0.0)
