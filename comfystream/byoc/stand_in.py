"""Whether pictures still come out while they go in."""

from __future__ import annotations

import time

__all__ = ["Stall"]

STALL_S = 1.0


class Stall:
    """Asked for each picture that goes in; told of each that came out."""

    def __init__(self) -> None:
        self._since: float | None = None

    def came(self) -> None:
        """One came out, or none is expected at the moment."""
        self._since = None

    def is_stalled(self) -> bool:
        """One went in: whether the last one came out too long ago."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since > STALL_S
