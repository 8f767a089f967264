"""Media time of what goes out: it never goes back, whatever made the picture."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from comfystream.clock import rescale
from comfystream.frames import AudioFrame, VideoFrame

__all__ = ["OutputTime"]

TICK = Fraction(1, 90_000)  # MPEG-TS
LATE = 1  # a picture that comes after a later one: this many ticks behind that
FAR = 5 * 90_000  # further behind is another clock, such as that of a graph without an input
FRAME = 3_000
OVERLAP = 4_500


class OutputTime:
    """Puts frames in order.

    A picture of an input that was already answered by a stand-in comes late: it is shown right after that. One that is
    seconds behind comes from a graph that ticks by a clock of its own: all that follows is moved with it.
    """

    def __init__(self) -> None:
        self._picture: int | None = None
        self._sound: int | None = None
        self._shift = self._sound_shift = 0

    def place(self, frame: VideoFrame) -> VideoFrame:
        """The picture at its time, in ticks of 1/90000 s where that had to change."""
        at = rescale(frame.pts, frame.time_base, TICK)
        last = self._picture
        moved = at + self._shift
        if last is not None and moved <= last:
            if last - moved > FAR:
                self._shift = last + FRAME - at
                moved = at + self._shift
            else:
                moved = last + LATE
        elif self._shift and last is not None and moved - last > FAR and at > last:
            self._shift, moved = 0, at  # back to the clock of the input
        self._picture = moved
        return frame if moved == at else replace(frame, pts=moved, time_base=TICK)

    def place_sound(self, frame: AudioFrame) -> AudioFrame | None:
        """The sound at its time; None for what was heard already."""
        at = rescale(frame.pts, frame.time_base, TICK)
        length = rescale(frame.samples.shape[-1], Fraction(1, frame.sample_rate), TICK)
        moved, end = at + self._sound_shift, self._sound
        if end is not None and moved < end - OVERLAP:
            if end - moved <= FAR:
                return None
            self._sound_shift = end - at
            moved = end
        self._sound = moved + length
        return frame if moved == at else replace(frame, pts=moved, time_base=TICK)
