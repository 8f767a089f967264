"""Media time to RTP time that never runs backwards, and to the wall clock that both tracks of a peer share."""

from __future__ import annotations

from fractions import Fraction

from comfystream.clock import rescale

__all__ = ["MediaWall", "Timeline"]

_JUMP_S = 5  # media time that goes back, or ahead by more than this, is another source: RTP time goes on as the clock


class Timeline:
    """RTP times of one track.

    Args:
        base: the RTP clock, 1/90000 or 1/48000.
    """

    def __init__(self, base: Fraction) -> None:
        self._base = base
        self._offset = 0
        self._last: int | None = None
        self._last_ns = 0

    def at(self, pts: int, time_base: Fraction, now_ns: int) -> int:
        """RTP time of a frame, at least one tick after the last one.

        Args:
            pts, time_base: its media time.
            now_ns: monotonic nanoseconds.
        """
        ticks = rescale(pts, time_base, self._base)
        if self._last is None:
            self._offset = -ticks
        elif not 0 < ticks + self._offset - self._last < _JUMP_S / self._base:
            self._offset = self._last + self._elapsed(now_ns) - ticks
        self._last, self._last_ns = ticks + self._offset, now_ns
        return self._last

    def repeated(self, now_ns: int) -> int:
        """RTP time at which the last frame is shown once more."""
        self._last, self._last_ns = (self._last or 0) + self._elapsed(now_ns), now_ns
        return self._last

    def _elapsed(self, now_ns: int) -> int:
        return max(1, int(Fraction(now_ns - self._last_ns, 10**9) / self._base))


class MediaWall:
    """When each media time would be on the wall: one line for sound and pictures, so that they stay together.

    Sender reports (RFC 3550 6.4.1) tell the receiver this, whatever time the workflow took for either.
    """

    def __init__(self) -> None:
        self._offset_s: Fraction | None = None

    def at(self, media_s: Fraction, now_s: Fraction) -> Fraction:
        """Wall time of a media time; a new line is drawn when the two are more than seconds apart."""
        if self._offset_s is None or abs(media_s + self._offset_s - now_s) > _JUMP_S:
            self._offset_s = now_s - media_s
        return media_s + self._offset_s
