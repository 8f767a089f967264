"""How long pictures take from one stage to the next, over those of the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from comfystream.frames import Stamps

__all__ = ["STAGES", "Spread", "StageMeter", "spread"]

# Name of a stage, and the stamps that it lies between. "total" is all that a picture spends in this machine.
STAGES = (
    ("decode", "captured", "decoded"),
    ("wait", "decoded", "entered"),
    ("compute", "entered", "computed"),
    ("encode", "computed", "encoded"),
    ("send", "encoded", "sent"),
    ("total", "captured", "sent"),
)
KEPT = 120


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 95th percentile, in milliseconds."""

    p50: float
    p95: float


def spread(times_ms: Sequence[float]) -> Spread:
    """Of at least one time."""
    ordered = sorted(times_ms)
    last = len(ordered) - 1
    return Spread(ordered[len(ordered) // 2], ordered[min(last, len(ordered) * 95 // 100)])


class StageMeter:
    """Keeps the stamps of the newest pictures. Whoever encodes and sends them writes the last two stamps later."""

    def __init__(self) -> None:
        self._kept: deque[Stamps] = deque(maxlen=KEPT)

    def note(self, stamps: Stamps) -> None:
        """A picture has come out."""
        self._kept.append(stamps)

    def spreads(self) -> dict[str, Spread]:
        """By stage; those that no picture has passed (nobody looks, nothing is computed) are left out."""
        found: dict[str, Spread] = {}
        for name, first, last in STAGES:
            times = [(ended - began) / 1e6 for began, ended in self._pairs(first, last) if began and ended >= began]
            if times:
                found[name] = spread(times)
        return found

    def _pairs(self, first: str, last: str) -> list[tuple[int, int]]:
        return [(getattr(stamps, first), getattr(stamps, last)) for stamps in self._kept]
