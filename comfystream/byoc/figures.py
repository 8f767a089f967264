"""Counts of one stream."""

from __future__ import annotations

import time
from collections import deque

__all__ = ["Figures"]

WINDOW_S = 10.0
QUIET_S = 5.0
KINDS = ("ingress_video_fps", "ingress_audio_fps", "egress_video_fps", "egress_audio_fps")


class Figures:
    """What came and went, over ten seconds; media and wall times for the status.

    Attributes:
        size: width and height of the pictures that go out; of those to come before there is one.
        started_ms, last_input_ms, last_output_ms, last_params_ms, state_since_ms: milliseconds since the epoch.
    """

    def __init__(self, size: tuple[int, int] | None) -> None:
        self.size = size or (0, 0)
        self.started_ms = self.state_since_ms = self.last_params_ms = _now_ms()
        self.last_input_ms: int | None = None
        self.last_output_ms: int | None = None
        self._last_status_ms = 0
        self._state = ""
        self._seen: dict[str, deque[float]] = {kind: deque(maxlen=2000) for kind in KINDS}

    def came(self, *, is_video: bool) -> bool:
        """Something came in; True the first time."""
        is_first = self.last_input_ms is None
        self.last_input_ms = _now_ms()
        self._seen[KINDS[0 if is_video else 1]].append(time.monotonic())
        return is_first

    def went(self, *, is_video: bool) -> bool:
        """Something went out; True the first time."""
        is_first = self.last_output_ms is None
        self.last_output_ms = _now_ms()
        self._seen[KINDS[2 if is_video else 3]].append(time.monotonic())
        return is_first

    def fps(self) -> dict[str, float]:
        """Frames per second, in and out."""
        oldest = time.monotonic() - WINDOW_S
        age_s = min(WINDOW_S, max(1.0, (_now_ms() - self.started_ms) / 1000))
        found = {}
        for kind, times in self._seen.items():
            while times and times[0] < oldest:
                times.popleft()
            found[kind] = round(len(times) / age_s, 2)
        return found

    def state(self, work: str) -> str:
        """The state in the words of the status: that of what does the work, unless nothing comes in."""
        is_quiet = self.last_input_ms is not None and _now_ms() - self.last_input_ms > QUIET_S * 1000
        state = "DEGRADED_INPUT" if work == "ONLINE" and is_quiet else work
        if state != self._state:
            self._state, self.state_since_ms = state, _now_ms()
        return state

    def take_status_ms(self) -> int | None:
        """When the status before this one was made."""
        last, self._last_status_ms = self._last_status_ms, _now_ms()
        return last or None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
