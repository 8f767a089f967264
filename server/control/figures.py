"""The figures of a session, as viewers, REST and the types for programs have them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from comfystream.session.live_figures import LiveStats
from comfystream.session.live_sink_state import SinkStats
from comfystream.session.live_stages import Spread, spread

from ..resources import GpuReading, Gpus, memory_bytes
from .said import Said

__all__ = ["BitRate", "ConnectionFigures", "SinkFigures", "Stats", "sink_figures", "stats_of"]

NEWEST_TICKS = 120
_gpus = Gpus()


class Milliseconds(Said):
    """Median and 95th percentile of the last seconds, in milliseconds."""

    p50: float
    p95: float


class NodeFigures(Said):
    """Mean time of one call of a node that runs per frame, and how often it was called.

    With frames on a GPU: `place` is "cuda" for a node whose pictures are there, whose time is then that of giving the
    GPU its work, and "host" for one whose pictures are brought to the host. `moved_bytes` is what is moved per call.
    """

    node: str
    class_type: str
    ms: float
    calls: int = 0
    place: str = ""
    moved_bytes: int = 0


class VideoInFigures(Said):
    """Pictures that came over a connection."""

    frames: int = 0
    lost_frames: int = 0


class VideoOutFigures(Said):
    """Pictures that went out. `target_bitrate` is aimed at, `estimate` is what the other end can take."""

    codec: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    key_frames: int = 0
    dropped: int = 0
    failed: int = 0
    bytes: int = 0
    target_bitrate: int = 0
    estimate: int | None = None
    encode_ms: float = 0.0


class AudioInFigures(Said):
    """Runs of sound that came."""

    frames: int = 0


class AudioOutFigures(Said):
    """Slices of 20 ms that went out; `silent` ones are of them."""

    slices: int = 0
    silent: int = 0
    dropped_samples: int = 0


class ConnectionFigures(Said):
    """The WebRTC connection of the viewer who is told. `bitrate`: bits of pictures in the last second."""

    state: str = ""
    bitrate: int = 0
    video_in: VideoInFigures = VideoInFigures()
    video_out: VideoOutFigures = VideoOutFigures()
    audio_in: AudioInFigures = AudioInFigures()
    audio_out: AudioOutFigures = AudioOutFigures()
    ice_restarts: int = 0


class GpuFigures(Said):
    """A GPU of the server; None for what its driver does not say. Memory in bytes, of all programs together."""

    index: int
    name: str
    utilisation: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    engine_memory_bytes: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None


class MemoryFigures(Said):
    """Memory that the two processes hold; None where the system does not say, or where there is no engine process."""

    server_bytes: int | None = None
    engine_bytes: int | None = None


class SinkFigures(Said):
    """A recording or a push, and how it goes. `size` in bytes, `kbps` over the last seconds.

    `left_out`: frames of a kind that began after the recording did, or from before its beginning.
    """

    sink: str
    type: str
    target: str
    state: str
    reason: str = ""
    frames: int = 0
    dropped: int = 0
    left_out: int = 0
    size: int = 0
    kbps: float = 0.0


class Stats(Said):
    """What viewers are told once a second.

    `stages` has decode, wait, compute, encode, send and total; those that no picture passed are missing. `tick_ms` is
    by lane. `latency_ms` is that of the newest picture, through the session. `dropped` is by reason, since the start.
    """

    state: str
    fps_in: float
    fps_out: float
    frames_in: int
    frames_out: int
    dropped: dict[str, int]
    viewers: int
    source: str
    latency_ms: float
    stages: dict[str, Milliseconds] = {}
    failed: int = 0
    tick_ms: dict[str, Milliseconds] = {}
    nodes: list[NodeFigures] = []
    memory: MemoryFigures = MemoryFigures()
    gpu: list[GpuFigures] = []
    sinks: list[SinkFigures] = []
    connection: ConnectionFigures | None = None


class BitRate:
    """Bits per second out of a counter of bytes that is looked at now and then.

    Args:
        now_s: monotonic seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._bytes, self._at_s = 0, now_s()

    def of(self, total_bytes: int) -> int:
        """The rate since this was asked before."""
        now = self._now_s()
        spent, grown = now - self._at_s, total_bytes - self._bytes
        self._bytes, self._at_s = total_bytes, now
        return max(0, round(8 * grown / spent)) if spent > 0 else 0


def stats_of(stats: LiveStats, connection: Mapping[str, Any] | None = None) -> Stats:
    """A session's figures.

    Args:
        stats: of the session.
        connection: counters of the viewer who is told, as its peer has them, and `bitrate`.
    """
    return Stats(
        state=str(stats.state),
        fps_in=stats.input.fps,
        fps_out=stats.output.fps,
        frames_in=stats.frames_in,
        frames_out=stats.frames_out,
        dropped=stats.dropped,
        viewers=stats.viewers,
        source=stats.source,
        latency_ms=round(stats.latency_ms, 1),
        stages={name: _milliseconds(times) for name, times in stats.stages.items()},
        memory=MemoryFigures(
            server_bytes=memory_bytes(os.getpid()),
            engine_bytes=memory_bytes(stats.engine_pid) if stats.engine_pid is not None else None,
        ),
        sinks=[sink_figures(one) for one in stats.sinks],
        gpu=[_gpu(reading) for reading in _gpus.latest(stats.engine_pid)],
        connection=ConnectionFigures.model_validate(connection) if connection is not None else None,
        **_engine(stats),
    )


def _engine(stats: LiveStats) -> dict[str, Any]:
    engine = stats.engine
    if engine is None:
        return {}
    return {
        "failed": engine.failed,
        "tick_ms": {str(lane): _milliseconds(spread(ticks[-NEWEST_TICKS:])) for lane, ticks in engine.tick_ms.items()},
        "nodes": [
            NodeFigures(
                node=node.node_id,
                class_type=node.class_type,
                ms=round(node.total_ms / max(node.calls, 1), 2),
                calls=node.calls,
                place=node.place,
                moved_bytes=node.moved_bytes // max(node.calls, 1),
            )
            for node in engine.nodes
            if node.where != "static"
        ],
    }


def sink_figures(sink: SinkStats) -> SinkFigures:
    """Of one sink."""
    return SinkFigures.model_validate({**asdict(sink), "state": str(sink.state)})


def _milliseconds(times: Spread) -> Milliseconds:
    return Milliseconds(p50=round(times.p50, 2), p95=round(times.p95, 2))


def _gpu(reading: GpuReading) -> GpuFigures:
    return GpuFigures.model_validate(asdict(reading))
