"""Access units to bytes of a transport stream, each ready to be sent when the call returns."""

from __future__ import annotations

from collections.abc import Sequence

from comfystream.media.mpegts.demux import PACKET
from comfystream.media.mpegts.tables import PAT_PID, pat_section, pmt_section
from comfystream.media.mpegts.unit import StreamCodec, StreamInfo

__all__ = ["AUDIO_PID", "VIDEO_PID", "Muxer"]

VIDEO_PID, AUDIO_PID = 0x100, 0x101
_PMT_PID, _PROGRAM = 0x1000, 1
_ROOM = PACKET - 4
_MASK = (1 << 33) - 1
_LEAD = 9000  # the clock runs this much before the presentation: what a hardware decoder may take to get a picture in
_VIDEO_ID, _AUDIO_ID = 0xE0, 0xBD


class Muxer:
    """One program with H.264 and Opus streams. A new `tables` begins a part that can be read alone.

    The last packet of a unit is always a stuffed one, or one that the unit's length tells: a reader needs not wait for
    the next unit to know that this one is complete.
    """

    def __init__(self) -> None:
        self._counters: dict[int, int] = {}
        self._streams: tuple[StreamInfo, ...] = ()
        self._version = 0

    def tables(self, streams: Sequence[StreamInfo]) -> bytes:
        """Which streams there are, from here on; pictures carry the clock where there are any."""
        if self._streams and tuple(streams) != self._streams:
            self._version = self._version + 1 & 0x1F
        self._streams = tuple(streams)
        pat, pmt = pat_section(_PROGRAM, _PMT_PID), pmt_section(_PROGRAM, self._version, streams, self._clock_pid)
        return self._section(PAT_PID, pat) + self._section(_PMT_PID, pmt)

    @property
    def _clock_pid(self) -> int:
        return next((s.pid for s in self._streams if s.codec is StreamCodec.H264), self._streams[0].pid)

    def unit(self, stream: StreamInfo, data: bytes, pts: int, *, is_entry: bool = False) -> bytes:
        """One access unit.

        Args:
            stream: one of those in `tables`.
            data: a picture in Annex B form, or one packet of Opus without its control header.
            pts: in 1/90000 s; 33 bits of it are written.
            is_entry: a reader can begin here.
        """
        is_video = stream.codec is StreamCodec.H264
        pes = _pes(_VIDEO_ID if is_video else _AUDIO_ID, data, pts & _MASK, is_video=is_video)
        first = _adaptation(pts, is_entry) if stream.pid == self._clock_pid else b"\x40" if is_entry else b""
        return self._packets(stream.pid, pes, first)

    def _packets(self, pid: int, payload: bytes, flags: bytes) -> bytes:
        out, at, size = bytearray(), 0, len(payload)
        high, low, counter = pid >> 8, pid & 0xFF, self._counters.get(pid, 0)
        while at < size or not at:
            room = _ROOM - (1 + len(flags) if flags else 0)
            missing = room - (size - at)
            start = 0x40 if at == 0 else 0
            if missing <= 0 and not flags:
                out += bytes((0x47, start | high, low, 0x10 | counter))
            else:
                field = flags + b"\xff" * max(0, missing) if flags else _stuffing(missing)
                out += bytes((0x47, start | high, low, 0x30 | counter))
                out += bytes((len(field),)) + field if flags else field
            taken = min(room, size - at)
            out += payload[at : at + taken]
            at, counter, flags = at + taken, counter + 1 & 0x0F, b""
        self._counters[pid] = counter
        return bytes(out)

    def _section(self, pid: int, section: bytes) -> bytes:
        counter = self._counters.get(pid, 0)
        self._counters[pid] = counter + 1 & 0x0F
        head = bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10 | counter, 0))
        return (head + section).ljust(PACKET, b"\xff")


def _adaptation(pts: int, is_entry: bool) -> bytes:
    """Flags and the program clock."""
    clock = pts - _LEAD & _MASK
    return bytes((0x50 if is_entry else 0x10,)) + (clock << 15 | 0x7E00).to_bytes(6, "big")


def _stuffing(count: int) -> bytes:
    """An adaptation field of exactly `count` bytes, 1 or more, with its length."""
    return b"\x00" if count == 1 else bytes((count - 1, 0)) + b"\xff" * (count - 2)


def _pes(id: int, data: bytes, pts: int, *, is_video: bool) -> bytes:
    """The unit with its header; the length is left out where it does not fit into 16 bits.

    Such a unit gets a byte more of header than it needs if it would end with a packet that is full.
    """
    low = (pts >> 22, pts >> 14 | 1, pts >> 7, pts << 1 | 1)  # 8, 7 and a one, 8, 7 and a one
    time = bytes((0x21 | pts >> 29 & 0x0E, *(part & 0xFF for part in low)))
    length = 3 + len(time) + len(data)
    stated = 0 if is_video or length > 0xFFFF else length  # as FFmpeg writes pictures, which all readers know
    fills = stated == 0 and (9 + len(time) + len(data) + 8) % _ROOM == 0
    head = b"\x00\x00\x01" + bytes((id,)) + stated.to_bytes(2, "big")
    return head + bytes((0x84, 0x80, len(time) + fills)) + time + b"\xff" * fills + data
