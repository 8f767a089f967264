"""Who is there: viewers, and what keeps a session when there are none."""

from __future__ import annotations

from comfystream.clock import Clock

__all__ = ["Presence"]


class Presence:
    """Counts viewers and remembers since when nobody is there.

    Args:
        clock: says what time it is.

    Attributes:
        viewers: how many are attached.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keepers: frozenset[str] = frozenset()
        self._alone_since_ns: int | None = clock.now_ns()
        self.viewers = 0

    def attach(self) -> None:
        """A viewer has come."""
        self.viewers += 1
        self._settle()

    def detach(self) -> None:
        """A viewer has gone."""
        self.viewers = max(0, self.viewers - 1)
        self._settle()

    def keep(self, what: str, is_keeping: bool) -> None:
        """Whether something, by its name, keeps the session without viewers."""
        self._keepers = self._keepers | {what} if is_keeping else self._keepers - {what}
        self._settle()

    def _settle(self) -> None:
        if self.viewers or self._keepers:
            self._alone_since_ns = None
        elif self._alone_since_ns is None:
            self._alone_since_ns = self._clock.now_ns()

    @property
    def alone_s(self) -> float:
        """Seconds since nobody is there; 0 while there is somebody."""
        return 0.0 if self._alone_since_ns is None else (self._clock.now_ns() - self._alone_since_ns) / 1e9
