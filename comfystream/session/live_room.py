"""Whether the engine can carry one more session: it cannot while one that is there gets too few pictures out of it."""

from __future__ import annotations

import statistics

from comfystream.frames import Lane
from comfystream.session.live_figures import LiveStats
from comfystream.session.live_state import SessionState

__all__ = ["starved_fps"]

RECENT, LEAST = 8, 4  # ticks to reckon with


def starved_fps(stats: LiveStats, least_fps: float) -> float | None:
    """How many pictures a second the engine can make for a session, if that is fewer than `least_fps`; else None.

    It is reckoned from the time of the newest ticks, in which the other sessions have their part. A session that gets
    no pictures costs nothing, whatever its last ones took.
    """
    if stats.engine is None or stats.state is not SessionState.RUNNING:
        return None
    ticks = stats.engine.tick_ms
    recent = (ticks.get(Lane.VIDEO, ()) if stats.input.fps else ticks.get(Lane.CLOCK, ()))[-RECENT:]
    if len(recent) < LEAST:
        return None
    fps = 1000 / max(1e-3, statistics.median(recent))
    return fps if fps < least_fps else None
