"""Bytes of a transport stream to access units, whatever the bytes are and however they are cut."""

from __future__ import annotations

from dataclasses import dataclass

from comfystream.media.mpegts.pes import PesReader
from comfystream.media.mpegts.tables import PAT_PID, SectionReader, read_pat, read_pmt
from comfystream.media.mpegts.unit import AccessUnit, StreamInfo

__all__ = ["PACKET", "Demuxer"]

PACKET = 188
_SYNC = 0x47
_SYNC_BYTE = b"\x47"
_MOST_PROGRAMS = 64


@dataclass(slots=True)
class Damage:
    """What was wrong with the bytes so far.

    Attributes:
        skipped_bytes: did not belong to any packet.
        lost_packets: gaps in the count of a stream's packets, and packets that their sender marked as broken.
        lost_units: access units of which parts were missing.
    """

    skipped_bytes: int = 0
    lost_packets: int = 0
    lost_units: int = 0


class Demuxer:
    """Reads the first program that has pictures (else the first with sound), its first video and first audio stream.

    It never raises because of what the bytes are. Memory is bounded by the largest unit per stream.

    Attributes:
        streams: what the chosen program has, in the order of its map; empty before one was found.
    """

    def __init__(self) -> None:
        self.streams: tuple[StreamInfo, ...] = ()
        self._damage = Damage()
        self._rest = b""
        self._in_sync = False
        self._tables: dict[int, SectionReader] = {PAT_PID: SectionReader()}
        self._program: int | None = None
        self._readers: dict[int, PesReader] = {}
        self._counters: dict[int, int] = {}
        self._near: int | None = None
        self._lost_before = 0

    @property
    def damage(self) -> Damage:
        """What was wrong so far."""
        self._damage.lost_units = self._lost_before + sum(reader.lost for reader in self._readers.values())
        return self._damage

    def feed(self, data: bytes) -> list[AccessUnit]:
        """Units that these bytes complete."""
        data = self._rest + data if self._rest else data
        units: list[AccessUnit] = []
        at, end = 0, len(data)
        while at + PACKET <= end:
            if data[at] != _SYNC:
                self._in_sync = False
            if not self._in_sync:
                found = _sync(data, at)
                self._damage.skipped_bytes += found - at
                at = found
                if at + PACKET > end:
                    break
                self._in_sync = True
            self._packet(data, at, units)
            at += PACKET
        self._rest = data[at:]
        return units

    def end(self, *, is_whole: bool = True) -> list[AccessUnit]:
        """The end of a segment: what is still open is complete (or, with not `is_whole`, lost).

        What comes next may count its packets anew.
        """
        units: list[AccessUnit] = []
        for reader in self._readers.values():
            if is_whole:
                units += self._timed(reader.end(self._near))
            else:
                reader.break_off()
        self._damage.skipped_bytes += len(self._rest)
        self._rest, self._in_sync = b"", False
        self._counters.clear()
        return units

    def _packet(self, data: bytes, at: int, units: list[AccessUnit]) -> None:
        second, fourth = data[at + 1], data[at + 3]
        pid = (second & 0x1F) << 8 | data[at + 2]
        reader, table = self._readers.get(pid), self._tables.get(pid)
        if (reader is None and table is None) or fourth & 0xC0:  # not ours, or scrambled
            return
        if second & 0x80:
            self._lose(pid)
            return
        start, is_stuffed = at + 4, False
        if fourth & 0x20:
            length = data[at + 4]
            start += 1 + length
            if length:
                if data[at + 5] & 0x80:
                    self._counters.pop(pid, None)  # the sender says that its count begins anew
                is_stuffed = _has_stuffing(data, at + 5, length)
            else:
                is_stuffed = True
        if not fourth & 0x10 or start >= at + PACKET:
            return  # no payload: not counted either
        if not self._counts(pid, fourth & 0x0F):
            return
        payload, is_start = data[start : at + PACKET], bool(second & 0x40)
        if reader is not None:
            units += self._timed(reader.push(payload, is_start, is_stuffed, self._near))
        elif table is not None:
            for section in table.push(payload, is_start):
                self._table(pid, section)

    def _counts(self, pid: int, count: int) -> bool:
        """Note a packet's number; False for one that was sent twice."""
        before = self._counters.get(pid)
        self._counters[pid] = count
        if before is None or count == before + 1 & 0x0F:
            return True
        if count == before:
            return False
        self._lose(pid)
        return True

    def _lose(self, pid: int) -> None:
        self._damage.lost_packets += 1
        if pid in self._readers:
            self._readers[pid].break_off()

    def _timed(self, units: list[AccessUnit]) -> list[AccessUnit]:
        for unit in units:
            if unit.pts is not None:
                self._near = unit.pts
        return units

    def _table(self, pid: int, section: bytes) -> None:
        if pid == PAT_PID:
            for map_pid in list(read_pat(section).values())[:_MOST_PROGRAMS]:
                if map_pid not in self._tables and len(self._tables) <= _MOST_PROGRAMS:
                    self._tables[map_pid] = SectionReader()
            return
        program = read_pmt(section)
        if program is not None:
            self._choose(*program)

    def _choose(self, number: int, streams: list[StreamInfo]) -> None:
        """Take a program up: a known one with what it has now, another one if it has pictures and ours has not."""
        video, audio = (
            next((s for s in streams if s.codec is not None and s.codec.is_video is wanted), None)
            for wanted in (True, False)
        )
        chosen = {s.pid: s for s in (video, audio) if s is not None and s.pid not in self._tables}
        if number != self._program:
            has_video = any(reader.stream.codec.is_video for reader in self._readers.values() if reader.stream.codec)
            if not chosen or (self._readers and (has_video or video is None)):
                return
        self._program, self.streams = number, tuple(streams)
        for pid in [pid for pid, reader in self._readers.items() if chosen.get(pid) != reader.stream]:
            self._lost_before += self._readers.pop(pid).lost
        for pid, stream in chosen.items():
            self._readers.setdefault(pid, PesReader(stream))


def _sync(data: bytes, at: int) -> int:
    """Where the next packet begins: a sync byte that is followed by another one a packet later, if that is there."""
    end = len(data)
    while (at := data.find(_SYNC_BYTE, at)) >= 0:
        if at + PACKET >= end or data[at + PACKET] == _SYNC:
            return at
        at += 1
    return end


def _has_stuffing(data: bytes, flags_at: int, length: int) -> bool:
    """Whether an adaptation field is longer than what it holds, or holds nothing."""
    flags = data[flags_at]
    if not flags:
        return True  # two bytes to fill
    used = 1 + (6 if flags & 0x10 else 0) + (6 if flags & 0x08 else 0) + (1 if flags & 0x04 else 0)
    if flags & 0x02 and used < length:
        used += 1 + data[min(flags_at + used, len(data) - 1)]
    if flags & 0x01 and used < length:
        used += 1 + data[min(flags_at + used, len(data) - 1)]
    return length > used
