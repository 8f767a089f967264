"""When a picture is due, and which pictures a constant frame rate keeps, drops or repeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from comfystream.clock import Clock, rescale
from comfystream.frames import AudioFrame, VideoFrame

__all__ = ["FrameLimit", "Pacer", "RateConverter"]

Input = VideoFrame | AudioFrame
JITTER = Fraction(1, 10)  # of a tick: rounded times of nearly equal rates must not drop and repeat by turns


class Pacer:
    """Holds each frame back until its media time has come, as a camera would.

    Args:
        clock: injected for tests.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: tuple[int, Fraction] | None = None

    def wait(self, frame: Input) -> None:
        """Return when `frame` is due; the first one sets the start."""
        at = frame.pts * frame.time_base
        if self._began is None:
            self._began = (self._clock.now_ns(), at)
        began_ns, first = self._began
        self._clock.sleep_until_ns(began_ns + int((at - first) * 1_000_000_000))


class RateConverter:
    """Pictures at a constant rate: each tick shows the newest picture that has begun by then.

    Args:
        fps: ticks per second.
    """

    def __init__(self, fps: Fraction) -> None:
        self._base = 1 / fps
        self._held: VideoFrame | None = None
        self._held_at = Fraction(0)
        self._span = Fraction(1)
        self._next = 0
        self._count = 0

    def add(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Take a picture; give the ticks that lie before it."""
        at = frame.pts * frame.time_base / self._base
        if self._held is None:
            self._next = rescale(frame.pts, frame.time_base, self._base)
        else:
            yield from self._until(at)
            self._span = at - self._held_at
        self._held, self._held_at = frame, at

    def flush(self) -> Iterator[VideoFrame]:
        """The last picture lasts as long as the one before it did."""
        yield from self._until(self._held_at + self._span)

    def _until(self, end: Fraction) -> Iterator[VideoFrame]:
        while self._held is not None and self._next < end - JITTER:
            yield replace(self._held, id=self._count, pts=self._next, time_base=self._base)
            self._count += 1
            self._next += 1


class FrameLimit:
    """Says when a source has given enough.

    Args:
        duration_s: media time, from the first frame on; None = no limit.
        frames: pictures; None = no limit.
    """

    def __init__(self, duration_s: float | None, frames: int | None) -> None:
        self._duration = None if duration_s is None else Fraction(duration_s)
        self._frames = frames
        self._first: Fraction | None = None
        self._pictures = 0

    def admits(self, frame: Input) -> bool:
        """Whether `frame` is still wanted. Sound is wanted as long as pictures are."""
        at = frame.pts * frame.time_base
        if self._first is None:
            self._first = at
        if self._duration is not None and at - self._first >= self._duration:
            return False
        if isinstance(frame, VideoFrame):
            if self._frames is not None and self._pictures >= self._frames:
                return False
            self._pictures += 1
        return True
