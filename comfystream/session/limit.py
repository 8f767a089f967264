"""When a source has given enough."""

from __future__ import annotations

from fractions import Fraction

from comfystream.frames import AudioFrame, VideoFrame

__all__ = ["FrameLimit", "Input"]

Input = VideoFrame | AudioFrame


class FrameLimit:
    """Says when a source has given enough.

    Args:
        duration_s: media time, from 0 on; None = no limit.
        frames: pictures; None = no limit.
    """

    def __init__(self, duration_s: float | None, frames: int | None) -> None:
        self._duration = None if duration_s is None else Fraction(duration_s)
        self._frames = frames
        self._pictures = 0

    def admits(self, frame: Input) -> bool:
        """Whether `frame` is still wanted."""
        if self._duration is not None and frame.pts * frame.time_base >= self._duration:
            return False
        if isinstance(frame, VideoFrame):
            if self._frames is not None and self._pictures >= self._frames:
                return False
            self._pictures += 1
        return True
