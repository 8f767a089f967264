"""What a session counts: pictures in and out, how long they took, what was lost and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from comfystream.clock import Clock
from comfystream.engine.protocol import RunnerStats
from comfystream.frames import VideoFrame
from comfystream.session.live_figures import LiveCounts, LiveStats
from comfystream.session.live_fps import FpsMeter
from comfystream.session.live_stages import StageMeter

__all__ = ["LiveMeter"]

MOST_ON_THE_WAY = 64


class LiveMeter:
    """Counters of one session.

    Args:
        clock: says what time it is.

    Attributes:
        input, output: rates of pictures.
        stages: times between the stages of the newest pictures.
        dropped: frames that the session itself let go, by reason.
        latency_ns: of the newest picture, from its arrival here to its leaving here.
        restarts: of the engine.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entered: dict[int, int] = {}
        self.input, self.output = FpsMeter(), FpsMeter()
        self.stages = StageMeter()
        self.dropped: Counter[str] = Counter()
        self.latency_ns = 0
        self.restarts = 0

    def came(self, frame: VideoFrame) -> None:
        """A picture has come."""
        now = self._clock.now_ns()
        self.input.count(now)
        self._entered[frame.id] = now
        if len(self._entered) > MOST_ON_THE_WAY:
            del self._entered[next(iter(self._entered))]

    def went(self, frame: VideoFrame) -> None:
        """A picture goes out."""
        now = self._clock.now_ns()
        self.output.count(now)
        self.stages.note(frame.stamps)
        self.latency_ns = now - self._entered.pop(frame.id, now)

    def counts(self, run_dropped: Mapping[str, int]) -> LiveCounts:
        """The counters; `run_dropped` is what the session's run let go, by reason."""
        dropped = dict(self.dropped + Counter(run_dropped))
        return LiveCounts(self.input.total, self.output.total, self.restarts, dropped)

    def stats(self, run_dropped: Mapping[str, int], engine: RunnerStats | None, **more: Any) -> LiveStats:
        """All figures: those counted here and the engine's; `more` are the other attributes of `LiveStats`."""
        now, counts = self._clock.now_ns(), self.counts(run_dropped)
        dropped = Counter(counts.dropped) + Counter(engine.dropped if engine is not None else {})
        return LiveStats(
            frames_in=counts.frames_in,
            frames_out=counts.frames_out,
            input=self.input.stats(now),
            output=self.output.stats(now),
            dropped=dict(dropped),
            latency_ms=self.latency_ns / 1e6,
            stages=self.stages.spreads(),
            engine=engine,
            **more,
        )
