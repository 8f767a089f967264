"""Where the metrics come from: the sessions, their nodes, their viewers' connections, and the machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from comfystream.engine.protocol import NodeTiming
from comfystream.session.live import LiveSession
from comfystream.session.live_engine import EngineHost
from comfystream.session.live_registry import Sessions

from ..resources import GpuReading, Gpus, memory_bytes

__all__ = ["Machine", "NodeTimes", "Now", "Sent", "Traffic"]

MOST_NODES = 200
OTHER = "other"

Sent = Iterable[tuple[str, int, Mapping[str, Any]]]


class NodeTimes:
    """Time per node, of all sessions together. Past `MOST_NODES` nodes, further ones count as one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["class_type", "node", "place"]
        self._seconds = Counter("comfystream_node_seconds", "Time in a node", labels, registry=registry)
        self._calls = Counter("comfystream_node_calls", "Calls of a node", labels, registry=registry)
        self._known: set[tuple[str, str, str]] = set()
        self._seen: dict[tuple[str, int], dict[tuple[str, str, str], tuple[int, float]]] = {}

    def add(self, run: tuple[str, int], timings: Iterable[NodeTiming]) -> None:
        """The counters of a session and revision; what is new since they were given before is added."""
        seen = self._seen.setdefault(run, {})
        for timing in timings:
            key = (timing.node_id, timing.class_type, timing.where)
            calls, total_ms = seen.get(key, (0, 0.0))
            if timing.calls < calls:  # the engine has started again
                calls, total_ms = 0, 0.0
            seen[key] = timing.calls, timing.total_ms
            labels = self._labels(timing)
            self._seconds.labels(*labels).inc(max(0.0, timing.total_ms - total_ms) / 1000)
            self._calls.labels(*labels).inc(timing.calls - calls)
        for session, revision in [*self._seen]:
            if session == run[0] and revision != run[1]:
                del self._seen[session, revision]

    def _labels(self, timing: NodeTiming) -> tuple[str, str, str]:
        labels = (timing.class_type, timing.node_id, timing.place)
        if labels not in self._known and len(self._known) >= MOST_NODES:
            return OTHER, OTHER, ""
        self._known.add(labels)
        return labels

    def forget(self, sessions: set[str]) -> None:
        """Keep what was seen of these sessions only."""
        self._seen = {run: seen for run, seen in self._seen.items() if run[0] in sessions}


class Traffic(Collector):
    """Pictures sent per session, over all its viewers; a viewer who leaves takes nothing away."""

    def __init__(self, sessions: Sessions, sent: Callable[[], Sent]) -> None:
        self._sessions = sessions
        self._sent = sent
        self._last: dict[int, dict[str, int]] = {}
        self._totals: dict[str, dict[str, int]] = {}

    def collect(self) -> Iterator[Metric]:
        """The metrics of now."""
        targets = self._add()
        target = GaugeMetricFamily("comfystream_target_bitrate", "Bits per second aimed at", labels=["session"])
        data = CounterMetricFamily("comfystream_sent_bytes", "Bytes of pictures sent", labels=["session"])
        missed = CounterMetricFamily("comfystream_viewer_dropped", "Pictures that viewers missed", labels=["session"])
        for session, total in self._totals.items():
            target.add_metric([session], targets.get(session, 0))
            data.add_metric([session], total["bytes"])
            missed.add_metric([session], total["dropped"])
        yield from (target, data, missed)

    def _add(self) -> dict[str, int]:
        """Count what is new of each connection; the bitrates that are aimed at, by session."""
        targets: dict[str, int] = {}
        now: dict[int, dict[str, int]] = {}
        for session, connection, counters in self._sent():
            last = self._last.get(connection, {})
            now[connection] = {name: counters.get(name, 0) for name in ("bytes", "dropped")}
            total = self._totals.setdefault(session, {"bytes": 0, "dropped": 0})
            for name, value in now[connection].items():
                total[name] += max(0, value - last.get(name, 0))
            targets[session] = targets.get(session, 0) + counters.get("target_bitrate", 0)
        self._last = now
        alive = {session.id for session in self._sessions}
        self._totals = {session: total for session, total in self._totals.items() if session in alive}
        return targets


class Machine(Collector):
    """Memory of the engine process, and the GPU."""

    def __init__(self, host: EngineHost) -> None:
        self._host = host
        self._gpus = Gpus()

    def collect(self) -> Iterator[Metric]:
        """The metrics of now."""
        memory = GaugeMetricFamily("comfystream_memory_bytes", "Memory that a process holds", labels=["process"])
        for name, pid in (("server", os.getpid()), ("engine", self._host.engine_pid)):
            held = memory_bytes(pid) if pid is not None else None
            if held is not None:
                memory.add_metric([name], held)
        yield memory
        readings = self._gpus.latest(self._host.engine_pid)
        for name, words, value in _GPU if readings else ():
            family = GaugeMetricFamily(f"comfystream_gpu_{name}", words, labels=["gpu", "name"])
            for reading in readings:
                if (number := value(reading)) is not None:
                    family.add_metric([str(reading.index), reading.name], number)
            yield family


_GPU: tuple[tuple[str, str, Callable[[GpuReading], float | None]], ...] = (
    ("utilisation_percent", "How busy it is", lambda gpu: gpu.utilisation),
    ("memory_used_bytes", "Memory in use, by all programs", lambda gpu: gpu.memory_used_bytes),
    ("memory_total_bytes", "Memory that it has", lambda gpu: gpu.memory_total_bytes),
    ("temperature_celsius", "Temperature", lambda gpu: gpu.temperature_c),
    ("power_watts", "Power", lambda gpu: gpu.power_w),
)


class Now(Collector):
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
        yield GaugeMetricFamily("comfystream_tasks", "Tasks of the event loop", value=len(asyncio.all_tasks()))
        yield GaugeMetricFamily("comfystream_viewers", "Viewers", value=sum(s.viewers for s in sessions))
        yield CounterMetricFamily("comfystream_sessions_started", "Sessions so far", value=self._sessions.started)
        draining = int(self._sessions.is_draining)
        yield GaugeMetricFamily("comfystream_draining", "Whether the server is ending", value=draining)
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
