"""How many bits a picture is worth: limits by its size, and the network's word between them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BitrateRange", "fitting", "range_for"]

_LEAST_BITS, _START_BITS, _MOST_BITS = 0.02, 0.10, 0.25  # per pixel and picture, at 30 pictures a second
_FPS = 30
_FLOOR, _CEILING = 100_000, 12_000_000


@dataclass(frozen=True, slots=True)
class BitrateRange:
    """Bits per second: the least that is worth sending, what to begin with, and the most that is of use."""

    least: int
    start: int
    most: int


def range_for(width: int, height: int) -> BitrateRange:
    """The range for a picture size: 512x512 begins at 0.8 Mbit/s and goes to 2, 1280x720 at 2.8 and 6.9."""
    pixels = width * height * _FPS
    least, start, most = (
        round(min(_CEILING, max(_FLOOR, pixels * bits))) for bits in (_LEAST_BITS, _START_BITS, _MOST_BITS)
    )
    return BitrateRange(least, start, most)


def fitting(size: tuple[int, int], estimate: int | None) -> int:
    """The bitrate for a picture of `size` on a network that is said to carry `estimate` bits per second.

    Args:
        size: width and height in pixels.
        estimate: the receiver's word (REMB); None = nothing was heard yet.
    """
    limits = range_for(*size)
    return limits.start if estimate is None else max(limits.least, min(estimate, limits.most))
