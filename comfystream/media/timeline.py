"""Media time that only goes forward."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["Timeline"]


class Timeline:
    """Repairs the times of one stream: missing, repeated and backward ones become strictly increasing.

    A time that is missing follows the last one by a step. One that is a little too early (less than a second: repeated
    or out of order) is moved just past the last one, so that later times are as they were. One that is far too early
    (the clock of the recording was set back) starts a new count from there.

    Args:
        origin: this time becomes 0.
        step: usual spacing, in the same units.
        time_base: seconds per unit.
    """

    def __init__(self, origin: int, step: int, time_base: Fraction) -> None:
        self._offset = -origin
        self._step = max(1, step)
        self._second = max(1, int(1 / time_base))
        self._last: int | None = None

    def place(self, pts: int | None) -> int:
        """The time at which the next frame is shown."""
        self._last = self._place(pts, self._last)
        return self._last

    def _place(self, pts: int | None, last: int | None) -> int:
        if last is None:
            return 0 if pts is None else pts + self._offset
        if pts is None:
            return last + self._step
        placed = pts + self._offset
        if placed > last:
            return placed
        if last - placed < self._second:
            return last + max(1, self._step // 2)
        self._offset += last + self._step - placed
        return last + self._step
