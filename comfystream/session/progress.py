"""From counters to what a person wants to know: how fast, how much longer."""

from __future__ import annotations

from collections import deque

__all__ = ["Rate"]

WINDOW_S = 3.0


class Rate:
    """How fast a counter and the media time went lately.

    Args:
        total: media time of the whole in seconds; None when unknown.
    """

    def __init__(self, total: float | None) -> None:
        self.total = total
        self._samples: deque[tuple[float, int, float]] = deque()

    def add(self, now: float, count: int, media_s: float) -> None:
        """Note the counters at a time."""
        self._samples.append((now, count, media_s))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """Counts per second in the last few seconds."""
        if len(self._samples) < 2:
            return 0.0
        (began, first, _), (now, last, _) = self._samples[0], self._samples[-1]
        return (last - first) / (now - began) if now > began else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the media time is at its end; None when that cannot be told."""
        if self.total is None or len(self._samples) < 2:
            return None
        (began, _, first), (now, _, last) = self._samples[0], self._samples[-1]
        if last <= first or now <= began:
            return None
        return max(self.total - last, 0.0) * (now - began) / (last - first)
