"""PES packets (ISO/IEC 13818-1, 2.4.3.6): joined from the payloads of transport packets, ended as early as can be."""

from __future__ import annotations

from comfystream.media.mpegts.unit import AccessUnit, StreamInfo

__all__ = ["PesReader", "unwrap"]

_WRAP = 1 << 33
_MOST_BYTES = 16 << 20  # an intra picture of 8K at a very high quality
_START = b"\x00\x00\x01"


def unwrap(value: int, near: int | None) -> int:
    """A 33-bit time as the count that is nearest to `near`."""
    if near is None:
        return value
    ahead = (value - near) % _WRAP
    return near + (ahead if ahead < _WRAP // 2 else ahead - _WRAP)


class PesReader:
    """One stream's packets to access units.

    A unit ends where its length says; without one at a transport packet that is stuffed, as the last one of a unit has
    to be unless it happens to fit; else where the next one begins. A sender that goes on behind a stuffed packet shows
    that it stuffs as it likes, and is not taken at its word again.

    Args:
        stream: whose packets they are.

    Attributes:
        lost: units of which parts were missing.
    """

    def __init__(self, stream: StreamInfo) -> None:
        self.stream = stream
        self.lost = 0
        self._parts: list[bytes] | None = None  # None = between units
        self._size = 0
        self._whole: int | None = None  # bytes of the unit with its header, where it says so
        self._trusts_stuffing = True
        self._just_ended = False
        self._after_loss = False

    def push(self, payload: bytes, is_start: bool, is_stuffed: bool, near: int | None) -> list[AccessUnit]:
        """Take one transport packet's payload in; units that are complete now."""
        done: list[AccessUnit] = []
        if is_start:
            done += self.end(near)
            self._begin(payload)
        elif self._parts is None:
            if self._just_ended:
                self._trusts_stuffing, self._just_ended = False, False
                self.break_off()
            return done
        else:
            self._parts.append(payload)
            self._size += len(payload)
        if self._parts is None:
            return done
        if self._size > _MOST_BYTES:
            self.break_off()
        elif self._whole is not None:
            if self._size >= self._whole:
                done += self._finish(near)
        elif is_stuffed and self._trusts_stuffing and self.stream.codec is not None and self.stream.codec.is_video:
            done += self._finish(near)
            self._just_ended = True
        return done

    def end(self, near: int | None) -> list[AccessUnit]:
        """No more packets of this unit will come: it is complete, unless its length says otherwise."""
        if self._parts is None:
            return []
        if self._whole is not None and self._size < self._whole:
            self.break_off()
            return []
        return self._finish(near)

    def break_off(self) -> None:
        """Something was lost: what is gathered is of no use."""
        if self._parts is not None or not self._after_loss:
            self.lost += 1
        self._parts, self._after_loss = None, True

    def _begin(self, payload: bytes) -> None:
        self._just_ended = False
        if payload[:3] != _START or len(payload) < 9:
            self.break_off()
            return
        self._parts, self._size = [payload], len(payload)
        length = payload[4] << 8 | payload[5]
        self._whole = 6 + length if length else None

    def _finish(self, near: int | None) -> list[AccessUnit]:
        data = b"".join(self._parts or ())[: self._whole]
        self._parts = None
        start = 9 + data[8] if len(data) >= 9 else len(data)
        if start >= len(data):
            return []
        pts, dts = _times(data, start)
        unit = AccessUnit(
            self.stream,
            data[start:],
            None if pts is None else unwrap(pts, near),
            None if dts is None else unwrap(dts, near),
            self._after_loss,
        )
        self._after_loss = False
        return [unit]


def _times(data: bytes, start: int) -> tuple[int | None, int | None]:
    flags = data[7] >> 6
    if not flags & 2 or start < 14:
        return None, None
    pts = _time(data, 9)
    return pts, _time(data, 14) if flags == 3 and start >= 19 else pts


def _time(data: bytes, at: int) -> int:
    return (
        (data[at] >> 1 & 7) << 30
        | data[at + 1] << 22
        | (data[at + 2] >> 1) << 15
        | data[at + 3] << 7
        | data[at + 4] >> 1
    )
