"""Frames per second: now, and for each second of the last minute."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["FpsMeter", "FpsStats"]

KEPT_S = 60
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class FpsStats:
    """What a meter knows.

    Attributes:
        seconds: since the first frame; 0 before it.
        fps: frames in the last whole second.
        minute_average: mean of `minute`.
        minute: second and frames in it, for the last 60 whole seconds.
    """

    seconds: float = 0.0
    fps: float = 0.0
    minute_average: float = 0.0
    minute: tuple[tuple[int, int], ...] = ()


class FpsMeter:
    """Counts frames by whole seconds since the first one. Time comes from the caller."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self._second = 0
        self._in_second = 0
        self._whole: deque[tuple[int, int]] = deque(maxlen=KEPT_S)
        self.total = 0

    def count(self, now_ns: int) -> None:
        """A frame passed."""
        if self._start_ns is None:
            self._start_ns = now_ns
        self._roll(now_ns)
        self._in_second += 1
        self.total += 1

    def _roll(self, now_ns: int) -> None:
        assert self._start_ns is not None
        second = (now_ns - self._start_ns) // NS
        for missing in range(max(self._second, second - KEPT_S), second):
            self._whole.append((missing + 1, self._in_second if missing == self._second else 0))
        if second > self._second:
            self._second, self._in_second = second, 0

    def stats(self, now_ns: int) -> FpsStats:
        """The figures at `now_ns`. Before the first second is over, the frames so far count as its rate."""
        if self._start_ns is None:
            return FpsStats()
        self._roll(now_ns)
        minute = tuple(self._whole)
        counts = [frames for _, frames in minute] or [self._in_second]
        return FpsStats((now_ns - self._start_ns) / NS, counts[-1], sum(counts) / len(counts), minute)
