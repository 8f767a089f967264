"""A session is alone without viewers and without anything that keeps it."""

from __future__ import annotations

from comfystream.session.live_presence import Presence


class Hands:
    """A clock whose hands a test turns."""

    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self.ns = deadline_ns


def test_time_alone_counts_from_the_last_who_left() -> None:
    clock = Hands()
    presence = Presence(clock)
    clock.ns = 1_000_000_000
    assert presence.alone_s == 1
    presence.attach()
    presence.keep("source", True)
    presence.detach()
    presence.detach()
    assert (presence.viewers, presence.alone_s) == (0, 0)
    clock.ns = 5_000_000_000
    presence.keep("source", False)
    assert presence.alone_s == 0
    clock.ns = 7_000_000_000
    presence.keep("source", False)
    assert presence.alone_s == 2
