"""What `comfystream trickle publish` sends: a file or a pipe, cut where a player can begin.

MPEG-TS is cut before each key frame, at the level of its packets; whatever else is one segment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from comfystream.errors import ComfyStreamError, MediaError

__all__ = ["Piece", "TransportCutter", "is_transport_file", "pieces_of"]

PACKET = 188
SYNC = 0x47
PCR_HZ = 90_000
READ_BYTES = PACKET * 348  # close to 64 KiB
VIDEO_TYPES = (0x01, 0x02, 0x10, 0x1B, 0x24)  # MPEG-1, MPEG-2, MPEG-4, H.264, H.265 (ISO 13818-1, table 2-34)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes to send.

    Attributes:
        data: the bytes.
        is_start: a new segment begins with them.
        time_s: when they are to be sent, in the stream's own time; None when that is not known.
    """

    data: bytes
    is_start: bool = False
    time_s: float | None = None


class TransportCutter:
    """Cuts MPEG-TS packets before key frames. Each segment gets the tables, so that it can be played alone."""

    def __init__(self) -> None:
        self._rest = b""
        self._has_begun = False
        self._tables: dict[int, bytes] = {}
        self._map_pids: set[int] = set()
        self._video_pid: int | None = None
        self._time_s: float | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Cut what has come.

        Raises:
            MediaError: `not_transport_stream`.
        """
        data = self._rest + data
        whole = len(data) - len(data) % PACKET
        self._rest = data[whole:]
        begin = 0
        for at in range(0, whole, PACKET):
            packet = data[at : at + PACKET]
            if packet[0] != SYNC:
                raise MediaError("this is not MPEG-TS, or it is damaged", code="not_transport_stream")
            if self._is_start(packet) and self._is_second():
                if at > begin:
                    yield Piece(data[begin:at], time_s=self._time_s)
                yield Piece(b"".join(self._tables.values()), is_start=True, time_s=self._time_s)
                begin = at
        if whole > begin:
            yield Piece(data[begin:whole], time_s=self._time_s)

    def _is_second(self) -> bool:
        """What comes before the first key frame belongs to its segment."""
        has_begun, self._has_begun = self._has_begun, True
        return has_begun

    def end(self) -> Iterator[Piece]:
        """What is left over."""
        if self._rest:
            yield Piece(self._rest, time_s=self._time_s)

    def _is_start(self, packet: bytes) -> bool:
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        begins_unit = bool(packet[1] & 0x40)
        has_adaptation = bool(packet[3] & 0x20) and packet[4] > 0
        if has_adaptation and packet[5] & 0x10:
            self._time_s = (int.from_bytes(packet[6:11], "big") >> 7) / PCR_HZ
        if begins_unit and (pid == 0 or pid in self._map_pids):
            self._read_table(pid, packet)
        return pid == self._video_pid and begins_unit and has_adaptation and bool(packet[5] & 0x40)

    def _read_table(self, pid: int, packet: bytes) -> None:
        """The program table names the map's PID, the map that of the video."""
        self._tables[pid] = packet
        payload = packet[4 + (1 + packet[4] if packet[3] & 0x20 else 0) :]
        section = payload[1 + payload[0] :] if payload else b""
        if len(section) < 12:
            return
        end = min(3 + ((section[1] & 0x0F) << 8 | section[2]) - 4, len(section))
        if pid == 0:
            for at in range(8, end - 3, 4):
                if section[at : at + 2] != b"\0\0":
                    self._map_pids.add((section[at + 2] & 0x1F) << 8 | section[at + 3])
            return
        at = 12 + ((section[10] & 0x0F) << 8 | section[11])
        while at + 5 <= end:
            if section[at] in VIDEO_TYPES:
                self._video_pid = (section[at + 1] & 0x1F) << 8 | section[at + 2]
            at += 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])


def is_transport_file(file: Path) -> bool:
    """Whether a file begins like MPEG-TS; one that cannot be read does not."""
    try:
        with file.open("rb") as source:
            return _is_transport(source.read(PACKET + 1))
    except OSError:
        return False


async def pieces_of(file: Path) -> AsyncGenerator[Piece, None]:
    """A file in pieces; `-` is standard input.

    Raises:
        MediaError: `cannot_read`, or what begins like MPEG-TS is damaged.
    """
    try:
        source = sys.stdin.buffer if str(file) == "-" else await asyncio.to_thread(file.open, "rb")
        try:
            head = await _head(source)
            cutter = TransportCutter() if _is_transport(head) else None
            while head:
                for piece in cutter.feed(head) if cutter is not None else (Piece(head),):
                    yield piece
                head = await _some(source)
            for piece in cutter.end() if cutter is not None else ():
                yield piece
        finally:
            if source is not sys.stdin.buffer:
                source.close()
    except OSError as error:
        if isinstance(error, ComfyStreamError):
            raise
        raise MediaError(f"{file} cannot be read: {error.strerror or error}", code="cannot_read") from error


async def _head(source: BinaryIO) -> bytes:
    """Enough to see what it is."""
    head = b""
    while len(head) <= PACKET and (more := await _some(source)):
        head += more
    return head


def _is_transport(head: bytes) -> bool:
    return len(head) > PACKET and head[0] == head[PACKET] == SYNC


async def _some(source: BinaryIO) -> bytes:
    read = getattr(source, "read1", source.read)  # a pipe gives what it has
    data: bytes = await asyncio.to_thread(read, READ_BYTES)
    return data
