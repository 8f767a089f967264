"""The figures that a live session tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from comfystream.engine.protocol import RunnerStats
from comfystream.session.live_fps import FpsStats
from comfystream.session.live_sink_state import SinkStats
from comfystream.session.live_stages import Spread
from comfystream.session.live_state import SessionState

__all__ = ["LiveCounts", "LiveStats"]


@dataclass(frozen=True, slots=True)
class LiveStats:
    """Figures of a session since it began.

    Attributes:
        frames_in, frames_out: pictures that came and went.
        input, output: their rates.
        dropped: by reason, those of the engine included.
        viewers: how many are attached.
        latency_ms: of the newest picture, from its arrival here to its leaving here.
        engine: the engine's counters; None while there is no run.
        source: who sends frames; empty for nobody.
        sinks: recordings and pushes, those that are over included.
        stages: time of pictures between stages; those that none has passed are left out.
        engine_pid: process of the engine; None while there is none, and for one in this process.
    """

    state: SessionState
    revision: int
    frames_in: int
    frames_out: int
    input: FpsStats
    output: FpsStats
    dropped: dict[str, int]
    viewers: int
    latency_ms: float
    engine: RunnerStats | None
    source: str = ""
    sinks: tuple[SinkStats, ...] = ()
    stages: Mapping[str, Spread] = field(default_factory=dict)
    engine_pid: int | None = None


@dataclass(frozen=True, slots=True)
class LiveCounts:
    """What is known without asking the engine."""

    frames_in: int
    frames_out: int
    restarts: int
    dropped: dict[str, int]
