"""Monotonic time, injected where a duration matters so that tests can turn the hands."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Protocol

__all__ = ["Clock", "SystemClock", "rescale"]


class Clock(Protocol):
    """Where time comes from."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds since some fixed point."""
        ...

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Return at `deadline_ns`, at once if it is past."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Sleep until `deadline_ns`."""
        while (left := deadline_ns - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)


def rescale(pts: int, source: Fraction, target: Fraction) -> int:
    """A media time in another time base, rounded to the nearest tick (half up)."""
    scaled = pts * source / target
    return (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
