"""Opus in a transport stream (ETSI TS 103 491, as FFmpeg writes it): packets with a control header each."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["duration", "split", "with_header"]

_PREFIX, _MASK = 0x7FE0, 0xFFE0
_START_TRIM, _END_TRIM, _EXTENSION = 0x10, 0x08, 0x04
_RATE = 48_000


def with_header(packet: bytes) -> bytes:
    """A packet as it stands in a unit."""
    full, rest = divmod(len(packet), 255)
    return _PREFIX.to_bytes(2, "big") + b"\xff" * full + bytes((rest,)) + packet


def split(data: bytes) -> Iterator[bytes]:
    """Packets of a unit, up to where it makes no sense."""
    at, end = 0, len(data)
    while at + 3 <= end and (data[at] << 8 | data[at + 1]) & _MASK == _PREFIX:
        flags = data[at + 1]
        at += 2
        size = 0
        while at < end:
            size, at = size + data[at], at + 1
            if data[at - 1] != 255:
                break
        at += 2 * bool(flags & _START_TRIM) + 2 * bool(flags & _END_TRIM)
        if flags & _EXTENSION and at < end:
            at += 1 + data[at]
        if at + size > end or not size:
            return
        yield data[at : at + size]
        at += size


def duration(packet: bytes) -> int:
    """Samples at 48 kHz that a packet makes (RFC 6716, 3.1); 0 when it makes no sense."""
    if not packet:
        return 0
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        each = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        each = (480, 960)[config & 1]
    else:
        each = (120, 240, 480, 960)[config & 3]
    if code == 3:
        return each * (packet[1] & 0x3F) if len(packet) > 1 else 0
    return each * (1 if code == 0 else 2)
