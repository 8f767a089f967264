"""How far a live stream is behind, and when to leave pictures out."""

from __future__ import annotations

__all__ = ["Backlog"]

BEHIND_S, CAUGHT_UP_S, GIVE_UP_S = 1.0, 0.25, 2.0


class Backlog:
    """Decides about the packets of a stream that is read slower than it comes.

    A stream that is a second behind the best that it was is left out up to a key frame that is not. What stays behind
    although two seconds were left out comes from a clock that goes slower than ours: that is the new normal.
    """

    def __init__(self) -> None:
        self._best_s: float | None = None
        self._since_s: float | None = None
        self.left_out = 0

    def may_skip(self, media_s: float, now_s: float, *, is_key: bool) -> bool:
        """Whether the packet of that media time is left out."""
        delay = now_s - media_s
        best = self._best_s = delay if self._best_s is None else min(self._best_s, delay)
        if self._since_s is None:
            if delay - best <= BEHIND_S:
                return False
            self._since_s = now_s
        if is_key and (delay - best < CAUGHT_UP_S or now_s - self._since_s > GIVE_UP_S):
            self._best_s, self._since_s = delay, None
            return False
        self.left_out += 1
        return True
