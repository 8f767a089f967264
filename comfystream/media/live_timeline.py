"""Media time of a live session as the time of one recording: it begins at 0 and outlives changes of the source."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["LiveTimeline"]

_JUMP_S = 5  # media time that goes back, or this far from what the clock says, is another source
_BACK_S = 1


class LiveTimeline:
    """Maps the media times of pictures and sound onto one time.

    Both kinds of one source share a line, so that they stay together. When the source changes, its times make a new
    line that goes on where the old one was; frames of the old source that are still on their way keep theirs.
    """

    def __init__(self) -> None:
        self._newest: Fraction | None = None
        self._offsets: dict[type, Fraction] = {}
        self._last: dict[type, tuple[Fraction, int]] = {}

    def start(self, media_s: Fraction) -> None:
        """Media time that becomes 0."""
        self._newest = -media_s

    def at(self, kind: type, media_s: Fraction, now_ns: int) -> Fraction:
        """Seconds since the beginning; less than 0 for what is from before it.

        Args:
            kind: `VideoFrame` or `AudioFrame`.
            media_s: the frame's own time in seconds.
            now_ns: when it came, in monotonic nanoseconds.
        """
        if self._newest is None:
            self.start(media_s)
        assert self._newest is not None
        offset = self._offsets.get(kind, self._newest)
        if not self._is_near(kind, media_s + offset, now_ns):
            if not self._is_near(kind, media_s + self._newest, now_ns):
                self._newest = self._expected(now_ns) - media_s
            offset = self._newest
        self._offsets[kind] = offset
        at_s = media_s + offset
        self._last[kind] = (at_s, now_ns)
        return at_s

    def _expected(self, now_ns: int) -> Fraction:
        """Where the recording is by the clock."""
        times = [at_s + Fraction(now_ns - then_ns, 10**9) for at_s, then_ns in self._last.values()]
        return max(times, default=Fraction(0))

    def _is_near(self, kind: type, at_s: Fraction, now_ns: int) -> bool:
        if kind not in self._last:
            return abs(at_s - self._expected(now_ns)) < _JUMP_S
        last_s, then_ns = self._last[kind]
        step = at_s - last_s
        return -_BACK_S < step < _JUMP_S or (step > 0 and abs(step - Fraction(now_ns - then_ns, 10**9)) < _JUMP_S)
