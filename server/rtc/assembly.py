"""RTP packets to encoded frames, each handed on with its last packet."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiortc.jitterbuffer import JitterFrame
from aiortc.rtp import RtpPacket

__all__ = ["FrameAssembler"]

_MOST_PACKETS = 512  # what a frame and all that waits behind a lost packet may take
_RESTART = 100  # a packet this much older than what is expected begins another stream
_PATIENCE_NS = 250_000_000  # how long a lost packet is waited for: a round trip and a retransmission


class FrameAssembler:
    """Puts the packets of one video stream in order and joins them to frames.

    A frame is complete when all packets up to one with the marker are there (RFC 6184 5.1, RFC 7741 4.1), or up to one
    with another timestamp. A frame with a packet that does not come in time is given up.

    Args:
        deliver: gets the payload type of each frame and the frame.
        now_ns: monotonic nanoseconds.
    """

    def __init__(self, deliver: Callable[[int, JitterFrame], None], now_ns: Callable[[], int] = time.monotonic_ns):
        self._deliver = deliver
        self._now_ns = now_ns
        self._packets: dict[int, RtpPacket] = {}  # by sequence number, counted on where 16 bits wrap
        self._first: int | None = None  # where the next frame begins
        self._cursor = 0  # up to here all packets of it are there
        self._newest = 0
        self._blocked_since: int | None = None
        self._abandoned: int | None = None
        self._last_timestamp: int | None = None
        self._has_markers = True
        self.lost_frames = 0

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take a packet in; whether a key frame has to be asked for (and None, where aiortc expects a frame)."""
        number = self._number(packet.sequence_number)
        if self._first is None:
            self._restart(number)
        elif number < self._cursor and self._first - number < _RESTART:
            return False, None  # too late, or twice
        needs_key = not self._first_or(number) - _RESTART < number < self._first_or(number) + _MOST_PACKETS
        if needs_key:
            self._restart(number)
        self._packets[number] = packet
        self._newest = max(self._newest, number)
        self._release_all()
        return self._gives_up() or needs_key, None

    def _first_or(self, number: int) -> int:
        return number if self._first is None else self._first

    def _number(self, sequence_number: int) -> int:
        ahead = (sequence_number - self._newest) & 0xFFFF
        return self._newest + (ahead if ahead < 0x8000 else ahead - 0x10000)

    def _restart(self, number: int) -> None:
        self.lost_frames += bool(self._packets)
        self._packets.clear()
        self._first = self._cursor = self._newest = number
        self._blocked_since = None

    def _release_all(self) -> None:
        """Hand on all frames that are complete."""
        while (packet := self._packets.get(self._cursor)) is not None:
            first = self._packets[self._first_or(self._cursor)]
            if packet.timestamp != first.timestamp:
                self._release()
                continue
            self._cursor += 1
            if packet.marker and self._has_markers:
                self._release()

    def _release(self) -> None:
        packets = [self._packets.pop(number) for number in range(self._first_or(self._cursor), self._cursor)]
        self._first = self._cursor
        timestamp = packets[0].timestamp
        data = b"".join(getattr(packet, "_data", packet.payload) for packet in packets)
        if not data or timestamp == self._abandoned:  # without data it is padding: the sender tries the bandwidth
            return
        if timestamp == self._last_timestamp:
            self._has_markers = False  # this sender marks each slice
        self._last_timestamp = timestamp
        self._deliver(packets[0].payload_type, JitterFrame(data, timestamp))

    def _gives_up(self) -> bool:
        """Leave the frame with the hole when it was waited for long enough; whether that was so."""
        if self._newest < self._cursor:
            self._blocked_since = None
            return False
        now = self._now_ns()
        if self._blocked_since is None:
            self._blocked_since = now
        if now - self._blocked_since < _PATIENCE_NS:
            return False
        self._blocked_since = None
        self.lost_frames += 1
        self._leave_hole()
        self._release_all()
        return True

    def _leave_hole(self) -> None:
        """Go on behind the hole; the frame that it ends in cannot be shown either."""
        for number in range(self._first_or(self._cursor), self._cursor):
            del self._packets[number]
        self._first = self._cursor = min(self._packets)
        self._abandoned = self._packets[self._cursor].timestamp
